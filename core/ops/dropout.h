// Arguments of dropout.
#pragma once

#include "core/base/philox.h"
#include "core/tensor/view.h"

namespace trireme {

// y = x * scale where the draw of the element is at least `threshold`, else 0. The draw of channel
// k of token i is lane k % 4 of Philox(key, position[i] << 32 | k / 4, sample[i]), 32 bits. x and y
// are [n, c], contiguous; sample i64 [n], position i32 [n].
struct DropoutArgs {
  View x, sample, position, y;
  RngKey key;
  uint32_t threshold;
  double scale;
};

}  // namespace trireme
