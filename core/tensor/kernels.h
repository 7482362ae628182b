// Arguments of the kernels that Tensor itself needs.
#pragma once

#include "core/tensor/view.h"

namespace trireme {

// dst = src, converting the element type; any strides on both sides.
struct CopyArgs {
  View src, dst;
};

// dst = value, any strides.
struct FillArgs {
  View dst;
  double value;
};

// dst += alpha * src, in dst's type; any strides, src may be of another floating type.
struct AccumulateArgs {
  View src, dst;
  double alpha;
};

}  // namespace trireme
