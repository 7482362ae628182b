// The product below MatMul and Linear, outside the graph: what op functions and their closures
// call.
#pragma once

#include "core/tensor/tensor.h"

namespace trireme {

// c = a b + beta c, plus bias over the columns when it is defined; matrices, or batches of them.
// See GemmArgs for strides and types.
void RunGemm(const Tensor& a, const Tensor& b, const Tensor& c, double beta,
             const Tensor& bias = Tensor());

// The last two dimensions exchanged: a view.
Tensor TransposeLast(const Tensor& x);

}  // namespace trireme
