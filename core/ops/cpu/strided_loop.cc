#include "core/ops/cpu/strided_loop.h"

#include <algorithm>

#include "core/base/log.h"

namespace trireme {
namespace {

// The merged dimensions, innermost first.
struct LoopNest {
  int rank = 0;
  int num_operands = 0;
  int64_t size[6];
  int64_t stride[6][kMaxOperands];
};

LoopNest Merge(std::initializer_list<const View*> operands) {
  CHECK_LE(operands.size(), size_t{kMaxOperands});
  const View& first = **operands.begin();
  LoopNest nest;
  nest.num_operands = static_cast<int>(operands.size());
  for (int i = first.rank - 1; i >= 0; --i) {
    if (first.sizes[i] == 1) continue;
    int64_t stride[kMaxOperands];
    bool follows = nest.rank > 0;
    int k = 0;
    for (const View* operand : operands) {
      stride[k] = operand->strides[i];
      follows = follows && stride[k] == nest.stride[nest.rank - 1][k] * nest.size[nest.rank - 1];
      ++k;
    }
    if (follows) {
      nest.size[nest.rank - 1] *= first.sizes[i];
      continue;
    }
    nest.size[nest.rank] = first.sizes[i];
    std::copy(stride, stride + k, nest.stride[nest.rank]);
    ++nest.rank;
  }
  if (nest.rank == 0) {
    nest.rank = 1;
    nest.size[0] = 1;
    std::fill(nest.stride[0], nest.stride[0] + nest.num_operands, 1);
  }
  return nest;
}

// The rows of the outer dimensions [begin, end), counted in row-major order, with columns
// [column, column + count).
void RunRows(const LoopNest& nest, int64_t begin, int64_t end, int64_t column, int64_t count,
             absl::FunctionRef<void(const Row&)> fn) {
  Row row;
  row.count = count;
  row.dense = true;
  for (int k = 0; k < nest.num_operands; ++k) {
    row.stride[k] = nest.stride[0][k];
    row.offset[k] = column * row.stride[k];
    row.dense = row.dense && row.stride[k] == 1;
  }
  int64_t index[6];
  int64_t rest = begin;
  for (int i = 1; i < nest.rank; ++i) {
    index[i] = rest % nest.size[i];
    rest /= nest.size[i];
    for (int k = 0; k < nest.num_operands; ++k) row.offset[k] += index[i] * nest.stride[i][k];
  }
  for (int64_t r = begin; r < end; ++r) {
    fn(row);
    for (int i = 1; i < nest.rank; ++i) {
      for (int k = 0; k < nest.num_operands; ++k) row.offset[k] += nest.stride[i][k];
      if (++index[i] < nest.size[i]) break;
      for (int k = 0; k < nest.num_operands; ++k) {
        row.offset[k] -= nest.size[i] * nest.stride[i][k];
      }
      index[i] = 0;
    }
  }
}

}  // namespace

void ForEachRow(CpuDevice& cpu, std::initializer_list<const View*> operands,
                absl::FunctionRef<void(const Row&)> fn) {
  if ((*operands.begin())->numel() == 0) return;
  const LoopNest nest = Merge(operands);
  const int64_t columns = nest.size[0];
  int64_t rows = 1;
  for (int i = 1; i < nest.rank; ++i) rows *= nest.size[i];
  if (columns < kElementGrain) {
    cpu.ParallelFor(rows, kElementGrain / columns,
                    [&](int64_t begin, int64_t end) { RunRows(nest, begin, end, 0, columns, fn); });
    return;
  }
  const int64_t pieces = (columns + kElementGrain - 1) / kElementGrain;
  cpu.ParallelFor(rows * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i % pieces * kElementGrain;
      RunRows(nest, i / pieces, i / pieces + 1, column, std::min(kElementGrain, columns - column),
              fn);
    }
  });
}

}  // namespace trireme
