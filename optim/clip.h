// Clipping by the global norm.
#pragma once

#include "core/module/unit_tensors.h"
#include "core/tensor/tensor.h"

namespace trireme {

// The sum of squares of a dense tensor, in f64 and in an order that depends on the size only.
// Synchronizes.
double SumOfSquares(const Tensor& x);

// The sum of squares of the gradients of owned slices that this rank counts (see IsCounted): added
// up over a replica it has each element once.
double SumOfCountedSquares(const ParameterSet& parameters, const UnitTensors& gradients,
                           int tensor_rank);

// The factor on the gradient: 1 while norm <= max_norm, max_norm / norm above; 1 when max_norm is 0
// (off).
double ClipFactor(double norm, double max_norm);

}  // namespace trireme
