// Layouts that op functions bring their operands into, outside the graph.
#pragma once

#include "core/tensor/tensor.h"

namespace trireme {

// x stretched to `shape`, as a read-only view with stride 0.
Tensor StretchTo(const Tensor& x, const Shape& shape);

// The transpose of StretchTo: sums grad over what was stretched from `shape`, in the accumulation
// type.
Tensor SumTo(const Tensor& grad, const Shape& shape);

// x as dense [outer, dim, inner]: itself where it is dense, else a copy.
Tensor AroundDim(const Tensor& x, int dim);

// x as a dense matrix [rows, columns] of its last dimension; a vector is one row.
Tensor AsRows(const Tensor& x);

}  // namespace trireme
