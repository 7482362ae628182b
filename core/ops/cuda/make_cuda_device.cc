// The entry of the plug-in: see core/ops/devices.h.
#include "core/device/cuda/cuda_device.h"
#include "core/device/plugin.h"
#include "core/ops/cuda/cuda_kernels.h"

extern "C" {

__attribute__((visibility("default"))) const char* trireme_plugin_build() {
  return trireme::PluginBuild();
}

__attribute__((visibility("default"))) void trireme_make_cuda_device(
    const trireme::CudaOptions& options,
    trireme::StatusOr<std::unique_ptr<trireme::Device>>* device) {
  *device = trireme::CudaDevice::Create(options, trireme::CudaKernels());
}

}  // extern "C"
