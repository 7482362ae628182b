// Sums of gradient parts with the coefficients of a code: what encoding and decoding are.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace trireme {

struct WeightedPart {
  double weight;
  const float* values;
};

// out[i] = sum over parts of weight * values[i], in the order of the parts: reads every part once
// and writes `out` once, whatever their number. Sums are f32 and weights are rounded to f32;
// products are fused with sums where the processor can. With weights of 1 a sum has the bits of
// plain additions. `out` overlaps no part. No part: zeros.
void WeightedSum(absl::Span<const WeightedPart> parts, int64_t size, float* out);

}  // namespace trireme
