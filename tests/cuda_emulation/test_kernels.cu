#include "tests/cuda_emulation/test_kernels.h"

namespace trireme::emulation {
namespace {

struct Large {
  float values[32];
};

__device__ int GlobalThread() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }
__device__ float* SharedFloats() { return static_cast<float*>(SharedBytes()); }

}  // namespace

__global__ void Scale(float* x, float factor, int n) {
  const int i = GlobalThread();
  if (i < n) x[i] *= factor;
}

__global__ void BlockSum(const float* x, float* out, int n) {
  float* warp_sums = SharedFloats();
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

__global__ void ReadAll(const float* x, float* out, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += x[i];
  out[0] = sum;
}

__global__ void WriteBf16(bfloat16* x, int n) {
  if (GlobalThread() < n) x[GlobalThread()] = bfloat16(1.5f);
}

__global__ void WriteBytes(uint8_t* x, int n) {
  if (GlobalThread() < n) x[GlobalThread()] = 7;
}

__global__ void Count(int* counter) { atomicAdd(counter, 1); }

__global__ void Shuffles(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int* mine = out + 5 * lane;
  mine[0] = __shfl_sync(0xFFFFFFFF, lane, 3, 8);
  mine[1] = __shfl_up_sync(0xFFFFFFFF, lane, 2, 16);
  mine[2] = __shfl_down_sync(0xFFFFFFFF, lane, 5);
  mine[3] = static_cast<int>(__ballot_sync(0xFFFFFFFF, lane % 3 == 0));
  mine[4] = __all_sync(0xFFFFFFFF, lane < 32) + 2 * __any_sync(0xFFFFFFFF, lane > 31) +
            4 * __syncthreads_count(lane % 2);
}

__global__ void Multiply(const uint32_t* a, const uint32_t* b, float* d) {
  const unsigned lane = threadIdx.x;
  uint32_t a_fragment[4], b_fragment[2];
  float d_fragment[4];
  for (unsigned i = 0; i < 4; ++i) a_fragment[i] = a[4 * lane + i];
  for (unsigned i = 0; i < 2; ++i) b_fragment[i] = b[2 * lane + i];
  for (unsigned i = 0; i < 4; ++i) d_fragment[i] = d[4 * lane + i];
  MmaBf16(d_fragment, a_fragment, b_fragment);
  for (unsigned i = 0; i < 4; ++i) d[4 * lane + i] = d_fragment[i];
}

__global__ void TableLookup(float* out) {
  static constexpr float kTable[] = {1, 2, 4, 8, 16, 32, 64, 128};
  out[threadIdx.x] = kTable[threadIdx.x % 8];
}

__global__ void LargeParams(View view, float* out) {
  out[0] = static_cast<float>(view.sizes[threadIdx.x + 5]);
}

__global__ void WriteAt(float* x, int64_t index) { x[index] = 1; }

__global__ void WriteShared(int index) { static_cast<char*>(SharedBytes())[index] = 1; }

__global__ void ReadSharedFromBefore(float* out) {
  if (blockIdx.x == 0) {
    SharedFloats()[0] = 1;
  } else {
    out[0] = SharedFloats()[0];
  }
}

__global__ void ReadVector(const float* x, float* out) {
  const float4 v = *reinterpret_cast<const float4*>(x);
  out[0] = v.x + v.y + v.z + v.w;
}

__global__ void AtomicAt(char* x) { atomicAdd(reinterpret_cast<int*>(x), 1); }

__global__ void CopyStruct(const float* x, float* out) {
  *reinterpret_cast<Large*>(out) = *reinterpret_cast<const Large*>(x);
}

__global__ void Recurse(float* out, int depth) {
  volatile float frame[256];
  frame[depth % 256] = static_cast<float>(depth);
  if (depth > 0) Recurse(out, depth - 1);
  out[0] = frame[depth % 256];
}

__global__ void WriteSame(float* x) { x[0] = static_cast<float>(threadIdx.x); }

__global__ void ReverseShared(float* out, bool barrier) {
  SharedFloats()[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (barrier) __syncthreads();
  out[GlobalThread()] = SharedFloats()[blockDim.x - 1 - threadIdx.x];
}

__global__ void ReverseInWarp(float* out, bool sync) {
  SharedFloats()[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (sync) __syncwarp();
  out[threadIdx.x] = SharedFloats()[threadIdx.x ^ 1];
}

__global__ void ReadBeforeWrite(float* x, bool barrier) {
  const float neighbour = x[(threadIdx.x + 1) % blockDim.x];
  if (barrier) __syncthreads();
  x[threadIdx.x] = neighbour;
}

__global__ void WritePerBlock(float* x, bool apart) {
  const unsigned i = apart ? blockIdx.x : 0;
  if (blockIdx.x == 0) {
    x[i] = 2;
  } else {
    x[1] = x[i] + 1;
  }
}

__global__ void CountAndRead(int* counter, float* out) {
  atomicAdd(counter, 1);
  if (threadIdx.x == 0) out[0] = static_cast<float>(*counter);
}

__global__ void ExitEarly(bool early) {
  if (early && threadIdx.x == 5) return;
  __syncthreads();
}

__global__ void TwoBarriers(bool divergent) {
  if (divergent && threadIdx.x >= 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void ShuffleInHalf(int* out, unsigned mask) {
  if (threadIdx.x >= 16) return;
  out[threadIdx.x] = __shfl_xor_sync(mask, static_cast<int>(threadIdx.x), 1);
}

__global__ void ShuffleAfterExit(bool exits) {
  if (exits && threadIdx.x == 3) return;
  __shfl_sync(0xFFFFFFFF, 1, 0);
}

__global__ void ShuffleFromOutside(int* out, bool outside) {
  if (threadIdx.x >= 8) return;
  out[threadIdx.x] = __shfl_sync(0xFF, static_cast<int>(threadIdx.x), outside ? 9 : 7);
}

__global__ void LoopOfBarriers(int n) {
  for (int i = 0; i < n; ++i) __syncthreads();
}

__global__ void TakeHuge(Huge) {}

}  // namespace trireme::emulation
