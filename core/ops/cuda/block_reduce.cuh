// Reductions over the threads of a warp and of a block. The order depends on the block's size only.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/device/cuda/language.cuh"

namespace trireme {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFF;
inline constexpr int kMaxWarps = 32;

__device__ inline float ShuffleXor(float value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
__device__ inline int ShuffleXor(int value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
__device__ inline double ShuffleXor(double value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}

template <typename A>
struct SumOf {
  __device__ A operator()(A a, A b) const { return a + b; }
};
template <typename A>
struct MaxOf {
  __device__ A operator()(A a, A b) const { return a > b ? a : b; }
};

// The same value in all lanes, when combine is commutative; over groups of `width` lanes.
template <typename V, typename Combine>
__device__ inline V WarpReduce(V value, Combine combine, int width = kWarp) {
  for (int mask = width / 2; mask > 0; mask /= 2) value = combine(value, ShuffleXor(value, mask));
  return value;
}

// The same value in all threads of a block of whole warps in one dimension. `shared` has room for
// kMaxWarps values; what was in it before may still be in use.
template <typename V, typename Combine>
__device__ inline V BlockReduce(V value, V identity, V* shared, Combine combine) {
  value = WarpReduce(value, combine);
  const int warps = blockDim.x / kWarp, lane = threadIdx.x % kWarp;
  if (warps == 1) return value;
  __syncthreads();
  if (lane == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  return WarpReduce(lane < warps ? shared[lane] : identity, combine);
}

template <typename A>
__device__ inline A BlockSum(A value, A* shared) {
  return BlockReduce(value, A(0), shared, SumOf<A>());
}

// Whole warps for a row of c elements, of which a thread takes kCount at once.
inline constexpr int kMaxRowThreads = 512;
inline int RowThreads(int64_t c, int kCount) {
  const int64_t warps = (c + kWarp * kCount - 1) / (kWarp * kCount);
  return kWarp * static_cast<int>(std::clamp<int64_t>(warps, 1, kMaxRowThreads / kWarp));
}

// fn(i) for the thread's chunks [i, i + kCount) of [0, n).
template <int kCount, typename Fn>
__device__ inline void ForEachChunk(int64_t n, Fn fn) {
  const int64_t step = int64_t{blockDim.x} * kCount;
  for (int64_t i = int64_t{threadIdx.x} * kCount; i < n; i += step) fn(i);
}

}  // namespace trireme
