// Arguments of the rotary embedding.
#pragma once

#include "core/tensor/view.h"

namespace trireme {

// Turns the pairs (i, i + d/2) of x [n, h, d] by positions[n] (i32) * theta^(-2i/d), or back when
// `inverse`. The last dimension of x has stride 1, d is even; y is contiguous.
struct RotaryArgs {
  View x, positions, y;
  double theta;
  bool inverse = false;
};

}  // namespace trireme
