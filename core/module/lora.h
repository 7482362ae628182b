// Low-rank adaptation (Hu et al. 2021): a weight W [out, in] acts as W + (alpha / rank) B A with A
// [rank, in] and B [out, rank], which starts at zero. Every matrix that is applied by LinearOf, or
// by a layer of the tensor axis, can have one; W itself is frozen as a rule.
#pragma once

#include "core/module/parameter.h"

namespace trireme {

// Declares "<path>.lora_a" and "<path>.lora_b" in the units of `weight`, cut over the tensor axis
// as it is. Before anything is materialized. INVALID_ARGUMENT when it is no matrix of a product.
Status AddLora(ParameterSet& parameters, Parameter& weight, int64_t rank, double alpha);

// y = x W^T, adapters included: x [..., in] -> [..., out].
Tensor LinearOf(const Tensor& x, const Parameter& weight);

}  // namespace trireme
