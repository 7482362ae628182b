// Products of bf16 tiles in shared memory, a warp at a time: fragments as MmaBf16 wants them.
#pragma once

#include <cstdint>

#include "core/device/cuda/language.cuh"
#include "core/ops/cuda/element.cuh"

namespace trireme {

inline constexpr int kMmaThreads = 128;  // Four warps with 16 rows of a tile each.

// Rows of kWidth elements, eight of padding behind each: LoadMatrices then meets every bank once.
template <int kWidth>
struct MmaTile {
  static constexpr int kStride = kWidth + 8;
  static constexpr int64_t Bytes(int rows) { return int64_t{rows} * kStride * sizeof(bfloat16); }

  bfloat16* data;

  __device__ const bfloat16* At(int row, int column) const { return data + row * kStride + column; }

  // Rows [0, kRows): row(i) says where the columns of row i begin, of which `width` exist; zeros
  // for the others, and for nullptr. By the whole block.
  template <int kRows, typename RowFn>
  __device__ void Read(int width, bool in_chunks, RowFn row) const {
    constexpr int kCount = 8, kChunks = kWidth / kCount;
    for (int i = threadIdx.x; i < kRows * kChunks; i += kMmaThreads) {
      const int r = i / kChunks, column = i % kChunks * kCount;
      const bfloat16* from = row(r);
      Chunk<bfloat16, kCount> values{};
      if (from != nullptr && column < width) {
        if (in_chunks) {
          values = values.From(from + column);
        } else {
#pragma unroll
          for (int j = 0; j < kCount; ++j) {
            if (column + j < width) values.at[j] = from[column + j];
          }
        }
      }
      values.To(data + r * kStride + column);
    }
  }

  // The 16 x 16 from (row, column) on, as a.
  __device__ void LoadA(uint32_t (&a)[4], int row, int column) const {
    const int lane = threadIdx.x % 32;
    LoadMatrices(a, At(row + lane % 16, column + lane / 16 * 8));
  }
  // As two b of 16 x 8, whose columns are the rows [row, row + 16) here.
  __device__ void LoadColumns(uint32_t (&b)[4], int row, int column) const {
    const int lane = threadIdx.x % 32;
    LoadMatrices(b, At(row + lane / 16 * 8 + lane % 8, column + lane / 8 % 2 * 8));
  }
  // As two b of 16 x 8, side by side as they lie here.
  __device__ void LoadRows(uint32_t (&b)[4], int row, int column) const {
    const int lane = threadIdx.x % 32;
    LoadMatricesTransposed(b, At(row + lane % 16, column + lane / 16 * 8));
  }
};

// d += a b for the two b of a load.
__device__ inline void MmaTwo(float (&d0)[4], float (&d1)[4], const uint32_t (&a)[4],
                              const uint32_t (&b)[4]) {
  MmaBf16(d0, a, {b[0], b[1]});
  MmaBf16(d1, a, {b[2], b[3]});
}

// d [16, 8 kColumns / 8] += rows [row, row + 16) of a times the transpose of rows [0, kColumns) of
// b, over `depth` columns.
template <int kWidth, int kColumns>
__device__ inline void MmaRowsByRows(float (&d)[kColumns / 8][4], const MmaTile<kWidth>& a, int row,
                                     const MmaTile<kWidth>& b, int depth) {
#pragma unroll 4
  for (int k = 0; k < kWidth; k += 16) {
    if (k >= depth) break;
    uint32_t a_part[4], b_part[4];
    a.LoadA(a_part, row, k);
#pragma unroll
    for (int n = 0; n < kColumns; n += 16) {
      b.LoadColumns(b_part, n, k);
      MmaTwo(d[n / 8], d[n / 8 + 1], a_part, b_part);
    }
  }
}

// d [16, kColumns] += p [16, kDepth] times rows [0, kDepth) of b, columns [column, column +
// kColumns), where p is what a product left in registers.
template <int kWidth, int kColumns, int kDepth>
__device__ inline void MmaRegistersByTile(float (&d)[kColumns / 8][4],
                                          const float (&p)[kDepth / 8][4], const MmaTile<kWidth>& b,
                                          int column) {
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    const float(&left)[4] = p[k / 8];
    const float(&right)[4] = p[k / 8 + 1];
    const uint32_t a[4] = {PackBf16(left[0], left[1]), PackBf16(left[2], left[3]),
                           PackBf16(right[0], right[1]), PackBf16(right[2], right[3])};
#pragma unroll
    for (int n = 0; n < kColumns; n += 16) {
      uint32_t b_part[4];
      b.LoadRows(b_part, k, column + n);
      MmaTwo(d[n / 8], d[n / 8 + 1], a, b_part);
    }
  }
}

// fn(i, row, column) for what register i of d[t] holds of tile columns [8 t, 8 t + 8): row is 0 or
// 8 more than the lane's first.
template <typename Fn>
__device__ inline void ForEachRegister(int t, Fn fn) {
  const int column = 8 * t + 2 * (threadIdx.x % 4);
#pragma unroll
  for (int i = 0; i < 4; ++i) fn(i, i / 2, column + i % 2);
}

}  // namespace trireme
