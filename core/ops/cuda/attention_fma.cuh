// Products of 64 x 64 tiles by fused multiply-adds, for the types and widths that have no
// tensor-core path: 256 threads, four by four elements each, operands staged in shared memory 32
// deep.
#pragma once

#include <cstdint>

#include "core/device/cuda/language.cuh"
#include "core/ops/cuda/element.cuh"

namespace trireme {

inline constexpr int kFmaThreads = 256;
inline constexpr int kFmaSide = 64;    // Of a tile.
inline constexpr int kFmaDepth = 32;   // Of a stage.
inline constexpr int kFmaStride = 68;  // Between the lines of a stage: 16 bytes stay aligned.
inline constexpr int kFmaPart = 4;     // Rows, and columns, of a thread.

__device__ inline int FmaRow() { return static_cast<int>(threadIdx.x) / 16 * kFmaPart; }
__device__ inline int FmaColumn() { return static_cast<int>(threadIdx.x) % 16 * kFmaPart; }

// The thread's part of a tile.
template <typename A>
struct FmaSums {
  A at[kFmaPart][kFmaPart] = {};
};

// Lines of 64 numbers: line k holds element k of 64 rows, or 64 columns of row k.
template <typename A>
struct FmaStage {
  A* data;

  static constexpr int64_t Bytes(int depth) { return int64_t{depth} * kFmaStride * sizeof(A); }
  __device__ FmaStage From(int line) const { return {data + line * kFmaStride}; }
  __device__ A& At(int line, int i) const { return data[line * kFmaStride + i]; }

  // Elements [first, first + 32) of 64 rows, up to `width`; zeros for rows that are nullptr.
  template <typename T, typename RowFn>
  __device__ void ReadAcross(int first, int width, RowFn row) const {
    for (int i = threadIdx.x; i < kFmaSide * kFmaDepth; i += kFmaThreads) {
      const int k = i % kFmaDepth, r = i / kFmaDepth;
      if (first + k >= width) continue;
      const T* from = row(r);
      At(k, r) = from != nullptr ? A(Load(from + first + k)) : A(0);
    }
  }
  // Columns [first, first + 64) of 32 rows.
  template <typename T, typename RowFn>
  __device__ void ReadAlong(int first, int width, RowFn row) const {
    for (int i = threadIdx.x; i < kFmaSide * kFmaDepth; i += kFmaThreads) {
      const int column = i % kFmaSide, k = i / kFmaSide;
      const T* from = row(k);
      At(k, column) =
          from != nullptr && first + column < width ? A(Load(from + first + column)) : A(0);
    }
  }
};

__device__ inline Chunk<float, 4> LoadFour(const float* p) { return Chunk<float, 4>::From(p); }
struct FourDoubles {
  double at[4];
};
__device__ inline FourDoubles LoadFour(const double* p) {
  const auto low = Chunk<double, 2>::From(p), high = Chunk<double, 2>::From(p + 2);
  return {low.at[0], low.at[1], high.at[0], high.at[1]};
}

// sums[r][c] += left(k, r) right(k, c) over the lines k < depth of a stage.
template <typename A>
__device__ inline void FmaProduct(FmaSums<A>& sums, FmaStage<A> left, FmaStage<A> right,
                                  int depth) {
#pragma unroll 4
  for (int k = 0; k < min(depth, kFmaDepth); ++k) {
    const auto a = LoadFour(&left.At(k, FmaRow()));
    const auto b = LoadFour(&right.At(k, FmaColumn()));
#pragma unroll
    for (int i = 0; i < kFmaPart; ++i) {
#pragma unroll
      for (int j = 0; j < kFmaPart; ++j) sums.at[i][j] += a.at[i] * b.at[j];
    }
  }
}

// sums[r][c] += a_row(r) . b_row(c), rows of `width` elements.
template <typename T, typename A, typename ARow, typename BRow>
__device__ inline void FmaRowsByRows(FmaSums<A>& sums, FmaStage<A> left, FmaStage<A> right,
                                     int width, ARow a_row, BRow b_row) {
  for (int first = 0; first < width; first += kFmaDepth) {
    __syncthreads();
    left.template ReadAcross<T>(first, width, a_row);
    right.template ReadAcross<T>(first, width, b_row);
    __syncthreads();
    FmaProduct(sums, left, right, width - first);
  }
}

// sums[r][c] += p(k, r) b_row(k)[column + c] over the 64 lines of p, which the block has just
// written.
template <typename T, typename A, typename BRow>
__device__ inline void FmaTileByRows(FmaSums<A>& sums, FmaStage<A> p, FmaStage<A> stage, int column,
                                     int width, BRow b_row) {
  for (int first = 0; first < kFmaSide; first += kFmaDepth) {
    __syncthreads();
    stage.template ReadAlong<T>(column, width, [&](int k) { return b_row(first + k); });
    __syncthreads();
    FmaProduct(sums, p.From(first), stage, kFmaDepth);
  }
}

// The shared memory of a kernel: a tile, and two stages.
template <typename A>
struct FmaShared {
  FmaStage<A> tile, left, right;

  static constexpr int64_t kBytes =
      FmaStage<A>::Bytes(kFmaSide) + 2 * FmaStage<A>::Bytes(kFmaDepth);
  __device__ explicit FmaShared(void* bytes)
      : tile{static_cast<A*>(bytes)}, left(tile.From(kFmaSide)), right(left.From(kFmaDepth)) {}
};

}  // namespace trireme
