// Arithmetic on dense vectors in host memory.
#pragma once

#include "core/tensor/tensor.h"

namespace trireme {

// x *= factor, for f32 and f64.
void Scale(const Tensor& x, double factor);
// In f64.
double HostSumOfSquares(const Tensor& x);

}  // namespace trireme
