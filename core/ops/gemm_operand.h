// Operands of matrix products as libraries read them, on any device.
#pragma once

#include <optional>

#include "core/device/kernel.h"
#include "core/device/workspace.h"
#include "core/tensor/kernels.h"
#include "core/tensor/view.h"

namespace trireme {

// A matrix whose rows, or columns when it is transposed, are `ld` elements apart and dense.
struct OperandLayout {
  int64_t ld;
  bool transposed;
};

// Of the last two dimensions of a view; nothing when neither has unit stride, or when rows overlap
// (broadcast).
inline std::optional<OperandLayout> OperandLayoutOf(const View& view) {
  const int64_t rows = view.sizes[view.rank - 2], columns = view.sizes[view.rank - 1];
  const int64_t row_stride = view.strides[view.rank - 2],
                column_stride = view.strides[view.rank - 1];
  if ((column_stride == 1 || columns == 1) && (row_stride >= columns || rows == 1)) {
    return OperandLayout{rows == 1 ? columns : row_stride, false};
  }
  if ((row_stride == 1 || rows == 1) && (column_stride >= rows || columns == 1)) {
    return OperandLayout{columns == 1 ? rows : column_stride, true};
  }
  return std::nullopt;
}

// A dense copy of a view; dimensions that are broadcast among the batches stay so.
class Packed {
 public:
  Packed(Device& device, const View& view) : dense_(view) {
    View source = view;
    int64_t stride = 1;
    for (int i = view.rank - 1; i >= 0; --i) {
      const bool broadcast = i < view.rank - 2 && view.strides[i] == 0;
      dense_.sizes[i] = source.sizes[i] = broadcast ? 1 : view.sizes[i];
      dense_.strides[i] = stride;
      stride *= source.sizes[i];
    }
    memory_.emplace(device, stride * DTypeSize(view.dtype), "gemm");
    dense_.data = memory_->as<void>();
    Launch(device, &KernelTable::Copy, CopyArgs{source, dense_});
    for (int i = 0; i < view.rank - 2; ++i) {
      dense_.sizes[i] = view.sizes[i];
      if (view.strides[i] == 0) dense_.strides[i] = 0;
    }
  }
  const View& view() const { return dense_; }

 private:
  View dense_;
  std::optional<Workspace> memory_;
};

}  // namespace trireme
