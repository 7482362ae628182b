// Arguments of the GEMM kernel.
#pragma once

#include "core/tensor/view.h"

namespace trireme {

// c = alpha * op(a) * op(b) + beta * c over the last two dimensions; leading dimensions are batches
// (equal sizes, stride 0 to broadcast a or b). Each matrix has unit stride along one of its last
// two dimensions, so a transposed view is passed as it is. a and b have one dtype; c has it too, or
// its accumulation type. beta is 0 or 1; with beta = 0, c is not read. bias, when defined, is a
// vector over the columns of c in a's dtype.
struct GemmArgs {
  View a, b, c;
  double alpha = 1;
  double beta = 0;
  View bias = {};
};

}  // namespace trireme
