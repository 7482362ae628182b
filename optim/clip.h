// Clipping by the global norm.
#pragma once

#include "core/tensor/tensor.h"

namespace trireme {

// The sum of squares of a dense tensor, in f64 and in an order that depends on the size only. Synchronizes.
double SumOfSquares(const Tensor& x);

// The factor on the gradient: 1 while norm <= max_norm, max_norm / norm above; 1 when max_norm is 0 (off).
double ClipFactor(double norm, double max_norm);

}  // namespace trireme
