// What a launch may ask its device for. No Abseil here: kernels include it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <typeinfo>

#include "core/device/cuda/faults.h"
#include "core/device/workspace.h"

namespace trireme {

// Where kernels go: the compute stream, or that of a StreamScope. CHECKs that it is a CUDA device.
cudaStream_t ComputeStream(Device& device);
int NumMultiprocessors(Device& device);
bool AllowTf32(Device& device);  // Whether f32 products may be rounded to TF32.
DeviceFaults* Faults(Device& device);

void* StateOf(Device& device, const std::type_info& type, std::shared_ptr<void> (*make)());
// What a family of kernels keeps between launches, library handles say: one T a device, made on
// first use, destroyed with it. Thread-safe; what is inside is the user's to guard.
template <typename T>
T& DeviceState(Device& device) {
  const auto make = []() -> std::shared_ptr<void> { return std::make_shared<T>(); };
  return *static_cast<T*>(StateOf(device, typeid(T), make));
}

}  // namespace trireme
