// Sums over the rows of a matrix, for bias and gain gradients: many rows, few results. Rows are cut
// into chunks of fixed size, whose sums are then added in order, so that threads share the work and
// never change bits.
#pragma once

#include <algorithm>
#include <memory>

#include "core/device/cpu/cpu_device.h"
#include "core/ops/cpu/element.h"
#include "core/tensor/storage.h"

namespace trireme {

inline constexpr int64_t kRowChunk = 256;
inline constexpr int64_t kColumnBlock = 2048;

// y[o, i] = scale * sum_r row(o, r, i), plus y[o, i] when `accumulate`, for y [outer, inner]
// contiguous. add(acc, o, r0, r1, i0, i1) adds rows [r0, r1) of columns [i0, i1) to acc[0 .. i1 -
// i0).
template <typename Y, typename A, typename AddRows>
void ColumnSums(CpuDevice& cpu, Y* y, int64_t outer, int64_t rows, int64_t inner, A scale,
                bool accumulate, AddRows add) {
  if (outer * inner == 0) return;
  const int64_t chunks = std::max<int64_t>(1, (rows + kRowChunk - 1) / kRowChunk);
  const int64_t blocks = (inner + kColumnBlock - 1) / kColumnBlock;
  const auto partial_sums = Storage::Allocate(cpu, outer * chunks * inner * sizeof(A),
                                              MemoryKind::kWorkspace, "column sums");
  A* partial = static_cast<A*>(partial_sums->data());
  const int64_t tile = std::min(rows, kRowChunk) * std::min(inner, kColumnBlock);
  const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(1, tile));
  cpu.ParallelFor(outer * chunks * blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t o = t / (chunks * blocks), c = t / blocks % chunks, b = t % blocks;
      const int64_t i0 = b * kColumnBlock, i1 = std::min(inner, i0 + kColumnBlock);
      A* acc = partial + (o * chunks + c) * inner + i0;
      std::fill(acc, acc + (i1 - i0), A(0));
      add(acc, o, c * kRowChunk, std::min(rows, (c + 1) * kRowChunk), i0, i1);
    }
  });
  cpu.ParallelFor(outer * blocks,
                  std::max<int64_t>(1, 8192 / (chunks * std::min(inner, kColumnBlock))),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t t = begin; t < end; ++t) {
                      const int64_t o = t / blocks, i0 = t % blocks * kColumnBlock;
                      const int64_t n = std::min(inner - i0, kColumnBlock);
                      A* sum = partial + o * chunks * inner + i0;
                      for (int64_t c = 1; c < chunks; ++c) {
                        const A* more = sum + c * inner;
#pragma omp simd
                        for (int64_t i = 0; i < n; ++i) sum[i] += more[i];
                      }
                      Y* out = y + o * inner + i0;
                      for (int64_t i = 0; i < n; ++i) {
                        Store(out + i, scale * sum[i] + (accumulate ? A(Load(out + i)) : A(0)));
                      }
                    }
                  });
}

}  // namespace trireme
