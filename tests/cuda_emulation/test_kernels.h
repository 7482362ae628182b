// Kernels for the emulation's own tests, of which many are wrong on purpose, and their launch.
#pragma once

#include <cstdint>
#include <tuple>

#include "core/device/cuda/language.cuh"

namespace trireme::emulation {

void Scale(float* x, float factor, int n);
void BlockSum(const float* x, float* out, int n);  // One block; shared: a float per warp.
void WriteBeyond(float* x, int n);                 // x[n] = 1.
void ReadAll(const float* x, float* out, int n);   // out[0] = the sum, by one thread.
void WriteSame(float* x);                          // x[0] = thread.
void ReadVector(const float* x, float* out);       // A float4 at x.

// Queues the kernel; what cudaLaunchKernel answers.
template <typename... Params, typename... Args>
cudaError_t Launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, Args... args) {
  std::tuple<Params...> params(args...);
  return std::apply(
      [&](auto&... param) {
        void* pointers[] = {&param..., nullptr};
        return cudaLaunchKernel(KernelAddress(kernel), grid, block, pointers, shared_bytes, stream);
      },
      params);
}

}  // namespace trireme::emulation
