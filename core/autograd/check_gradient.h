// CheckGradient: the derivative of a function of tensors against central differences, in f64. For
// ops and layers of your own.
#pragma once

#include <functional>
#include <vector>

#include "core/base/status.h"
#include "core/tensor/tensor.h"

namespace trireme {

// A function of its inputs alone: the same inputs give the same output.
using CheckedFn = std::function<Tensor(const std::vector<Tensor>& inputs)>;

// Every output times a fixed random weight is summed to a scalar L. dL/d(input) from backward must
// equal central differences (Richardson's, of fourth order) for each f64 input: along one random
// direction, and element by element when the inputs have at most `full_limit` elements in all.
// Other inputs are left alone. `tolerance` is relative to the larger of 1 and the terms of the
// slope.
//
// INTERNAL names the input, the direction and both slopes.
Status CheckGradient(const CheckedFn& fn, const std::vector<Tensor>& inputs,
                     double tolerance = 1e-6, int64_t full_limit = 64);

}  // namespace trireme
