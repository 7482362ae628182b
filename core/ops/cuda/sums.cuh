// Sums over rows and over columns in two stages: chunks, whose size depends on the shape only, then
// their sums in order. No atomics, so bits never change.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/device/cuda/launch.cuh"
#include "core/ops/cuda/block_reduce.cuh"
#include "core/ops/cuda/element.cuh"

namespace trireme {

// What becomes of a sum: y[at] = scale * sum, plus what was there when `accumulate`.
template <typename Y, typename A>
struct SumTarget {
  Y* y;
  A scale;
  bool accumulate;
  __device__ void Put(int64_t at, A sum) const {
    Store(y + at, static_cast<AccOf<Y>>(scale * sum + (accumulate ? A(Load(y + at)) : A(0))));
  }
};

// target[o] of the sum of term(x[o, i]) over chunk blockIdx.x % chunks of a row.
template <typename T, int kCount, typename A, typename Term, typename Y>
__global__ void __launch_bounds__(kMaxRowThreads)
    SumRowChunks(const T* x, int64_t n, int64_t chunk, int64_t chunks, Term term,
                 SumTarget<Y, A> target) {
  const int64_t row = blockIdx.x / chunks, first = blockIdx.x % chunks * chunk;
  const T* from = x + row * n + first;
  A sum = 0;
  ForEachChunk<kCount>(min(chunk, n - first), [&](int64_t i) {
    const auto values = Chunk<T, kCount>::From(from + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) sum += term(A(AccOf<T>(values.at[j])));
  });
  sum = BlockSum(sum, static_cast<A*>(SharedBytes()));
  if (threadIdx.x == 0) target.Put(blockIdx.x, sum);
}

template <typename A>
struct Identity {
  __device__ A operator()(A value) const { return value; }
};

// target[o] = sum of term(x[o, i]) over i, for a dense x [outer, n].
template <typename T, typename A, typename Term, typename Y>
void RowSums(Device& device, const T* x, int64_t outer, int64_t n, Term term,
             const SumTarget<Y, A>& target) {
  if (outer == 0) return;
  // Short enough that there are many, and that f32 rounding does not add up.
  constexpr int64_t kElements = 8192;
  const int64_t chunks = std::max<int64_t>(1, (n + kElements - 1) / kElements);
  const auto run = [&](const auto& to) {
    using To = std::remove_const_t<std::remove_pointer_t<decltype(to.y)>>;
    constexpr int kCount = kChunk<T>;
    const bool in_chunks = InChunks<kCount>(x, n);
    const auto kernel =
        in_chunks ? SumRowChunks<T, kCount, A, Term, To> : SumRowChunks<T, 1, A, Term, To>;
    const int threads = RowThreads(std::min(n, kElements), in_chunks ? kCount : 1);
    LaunchKernel(device, kernel,
                 {dim3(outer * chunks), dim3(threads), kMaxWarps * int64_t{sizeof(A)}}, x, n,
                 kElements, chunks, term, to);
  };
  if (chunks == 1) return run(target);
  const Workspace partial(device, outer * chunks * sizeof(A), "row sums");
  run(SumTarget<A, A>{partial.as<A>(), A(1), false});
  LaunchKernel(device, SumRowChunks<A, 1, A, Identity<A>, Y>,
               {dim3(outer), dim3(RowThreads(chunks, 1)), kMaxWarps * int64_t{sizeof(A)}},
               partial.as<A>(), chunks, chunks, int64_t{1}, Identity<A>(), target);
}

inline constexpr int kSumColumns = 32, kSumRows = 8;  // Of a block.

// target[o, i] of the sum of term(o, r, i) over a chunk of rows.
template <typename A, typename Term, typename Y>
__global__ void __launch_bounds__(kSumColumns* kSumRows)
    SumColumnChunks(int64_t rows, int64_t inner, int64_t chunk, int64_t chunks, Term term,
                    SumTarget<Y, A> target) {
  A* shared = static_cast<A*>(SharedBytes());
  const int64_t blocks = (inner + kSumColumns - 1) / kSumColumns;
  const int64_t column = blockIdx.x % blocks * kSumColumns + threadIdx.x;
  const int64_t part = blockIdx.x / blocks;  // o * chunks + the chunk
  const int64_t o = part / chunks, begin = part % chunks * chunk;
  const int64_t end = min(rows, begin + chunk);
  A sum = 0;
  if (column < inner) {
#pragma unroll 4
    for (int64_t r = begin + threadIdx.y; r < end; r += kSumRows) sum += term(o, r, column);
  }
  shared[threadIdx.y * kSumColumns + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= inner) return;
  for (int y = 1; y < kSumRows; ++y) sum += shared[y * kSumColumns + threadIdx.x];
  target.Put(part * inner + column, sum);
}

template <typename A>
struct ElementTerm {
  const A* x;
  int64_t rows, inner;
  __device__ A operator()(int64_t o, int64_t r, int64_t i) const {
    return x[(o * rows + r) * inner + i];
  }
};

// target[o, i] = sum of term(o, r, i) over r.
template <typename A, typename Term, typename Y>
void ColumnSums(Device& device, int64_t outer, int64_t rows, int64_t inner, Term term,
                const SumTarget<Y, A>& target) {
  if (outer * inner == 0) return;
  constexpr int64_t kEnoughBlocks = 1024, kLeastRows = 64;
  const dim3 threads(kSumColumns, kSumRows);
  const int64_t shared_bytes = kSumColumns * kSumRows * sizeof(A);
  const int64_t blocks = outer * ((inner + kSumColumns - 1) / kSumColumns);
  const int64_t most_chunks = std::max<int64_t>(1, (rows + kLeastRows - 1) / kLeastRows);
  const int64_t wanted =
      std::min(most_chunks, std::max<int64_t>(1, (kEnoughBlocks + blocks - 1) / blocks));
  const int64_t chunk = std::max<int64_t>(1, (rows + wanted - 1) / wanted);
  const int64_t chunks = std::max<int64_t>(1, (rows + chunk - 1) / chunk);
  if (chunks == 1) {
    return LaunchKernel(device, SumColumnChunks<A, Term, Y>, {dim3(blocks), threads, shared_bytes},
                        rows, inner, chunk, chunks, term, target);
  }
  const Workspace partial(device, outer * chunks * inner * sizeof(A), "column sums");
  LaunchKernel(device, SumColumnChunks<A, Term, A>, {dim3(blocks * chunks), threads, shared_bytes},
               rows, inner, chunk, chunks, term, SumTarget<A, A>{partial.as<A>(), A(1), false});
  LaunchKernel(device, SumColumnChunks<A, ElementTerm<A>, Y>, {dim3(blocks), threads, shared_bytes},
               chunks, inner, chunks, int64_t{1}, ElementTerm<A>{partial.as<A>(), chunks, inner},
               target);
}

}  // namespace trireme
