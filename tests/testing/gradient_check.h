// Numeric gradients in tests, and tensors to check them on.
#pragma once

#include <vector>

#include "core/autograd/check_gradient.h"
#include "core/tensor/tensor.h"

namespace trireme::testing {

using Inputs = std::vector<Tensor>;

// Expects CheckGradient to pass.
void ExpectGradientsMatch(const CheckedFn& fn, const Inputs& inputs, double tolerance = 1e-6,
                          int64_t full_limit = 64);

// Values that are a fixed function of seed: normal(0, scale) in `dtype`.
Tensor RandomTensor(Device& device, const Shape& shape, uint64_t seed, double scale = 1,
                    DType dtype = DType::kF64);

}  // namespace trireme::testing
