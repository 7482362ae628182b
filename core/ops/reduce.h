// Arguments of the reductions. A tensor is reduced over the middle of [outer, n, inner], all dense.
#pragma once

#include "core/tensor/view.h"

namespace trireme {

// y = scale * sum of x over its middle dimension, or y += that. x is [outer, n, inner] and y
// [outer, inner], both contiguous; y has the dtype of x or its accumulation type, in which sums are
// kept.
struct SumArgs {
  View x, y;
  double scale = 1;
  bool accumulate = false;
};

// The first maximum over the middle dimension of x [outer, n, inner], n > 0; NaN is the largest.
// values (x's dtype) and indices (i64), both [outer, inner], may be undefined.
struct MaxArgs {
  View x, values, indices;
};

}  // namespace trireme
