// Launching kernels: the one function template that all of them go through. No Abseil here.
#pragma once

#include <cstdint>
#include <tuple>
#include <utility>

#include "core/device/cuda/check.h"
#include "core/device/cuda/faults.cuh"
#include "core/device/cuda/language.cuh"
#include "core/device/cuda/services.h"

namespace trireme {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  int64_t shared_bytes = 0;
};

inline constexpr int64_t kMaxGridX = (int64_t{1} << 31) - 1;

// Enough blocks of `threads` for n elements, one each, or at most `max_blocks` whose threads loop.
inline LaunchShape OverElements(int64_t n, int threads = 256, int64_t max_blocks = 1 << 16) {
  const int64_t blocks = (n + threads - 1) / threads;
  return {dim3(static_cast<unsigned>(blocks < max_blocks ? blocks : max_blocks)),
          dim3(static_cast<unsigned>(threads))};
}

// Queues the kernel on the device's compute stream. A grid without blocks is no launch. Throws
// Failure when the launch is refused; what goes wrong later is found by Device::Synchronize.
template <typename... Params, typename... Args>
void LaunchKernel(Device& device, void (*kernel)(Params...), const LaunchShape& shape,
                  Args&&... args) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  const void* address = KernelAddress(kernel);
  constexpr int64_t kSharedWithoutAsking = 48 << 10;
  if (shape.shared_bytes > kSharedWithoutAsking) {
    CUDA_OR_THROW(cudaFuncSetAttribute(address, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(shape.shared_bytes)));
  }
  std::tuple<Params...> params(std::forward<Args>(args)...);
  std::apply(
      [&](auto&... param) {
        void* pointers[] = {&param..., nullptr};
        CUDA_OR_THROW(cudaLaunchKernel(address, shape.grid, shape.block, pointers,
                                       static_cast<size_t>(shape.shared_bytes),
                                       ComputeStream(device)));
      },
      params);
}

}  // namespace trireme
