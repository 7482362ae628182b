#include "tests/cuda_emulation/test_kernels.h"

namespace trireme::emulation {

__global__ void Scale(float* x, float factor, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] *= factor;
}

__global__ void BlockSum(const float* x, float* out, int n) {
  auto* warp_sums = static_cast<float*>(SharedBytes());
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) sum += x[i];
  for (int delta = 16; delta > 0; delta /= 2) sum += __shfl_xor_sync(0xFFFFFFFF, sum, delta);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float total = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += warp_sums[warp];
  *out = total;
}

__global__ void WriteBeyond(float* x, int n) { x[n] = 1; }

__global__ void ReadAll(const float* x, float* out, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += x[i];
  out[0] = sum;
}

__global__ void WriteSame(float* x) { x[0] = static_cast<float>(threadIdx.x); }

__global__ void ReadVector(const float* x, float* out) {
  const float4 v = *reinterpret_cast<const float4*>(x);
  out[0] = v.x + v.y + v.z + v.w;
}

}  // namespace trireme::emulation
