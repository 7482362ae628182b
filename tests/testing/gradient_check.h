// Numeric gradients: the derivative of every op is checked by central differences in f64.
#pragma once

#include <functional>
#include <vector>

#include "core/tensor/tensor.h"

namespace trireme::testing {

using Inputs = std::vector<Tensor>;
using TestedFn = std::function<Tensor(const Inputs&)>;

// Every output times a fixed random weight is summed to a scalar L. Expects dL/d(input) from backward to
// equal central differences, for each f64 input: element by element when the inputs are small (at most
// `full_limit` elements in all), and along one random direction always. Integer inputs are left alone.
void ExpectGradientsMatch(const TestedFn& fn, const Inputs& inputs, double tolerance = 1e-6,
                          int64_t full_limit = 64);

// Values that are a fixed function of seed: normal(0, scale) in `dtype`.
Tensor RandomTensor(Device& device, const Shape& shape, uint64_t seed, double scale = 1,
                    DType dtype = DType::kF64);

}  // namespace trireme::testing
