// Drawing initial values: a slot of its own, so that devices fill parameters where they live.
#pragma once

#include "core/base/philox.h"
#include "core/tensor/view.h"

namespace trireme {

class Shape;
class Tensor;

// Element with global index i (row-major in the whole tensor) becomes stddev * NormalAt(key, i).
// dst is the dense box of the whole that starts at `begin`.
struct DrawNormalArgs {
  View dst;
  RngKey key;
  double stddev;
  int64_t global_strides[6];
  int64_t first;  // Global index of dst's first element.
};

void DrawNormal(const Tensor& dst, RngKey key, double stddev, const Shape& global,
                const Shape& begin);

}  // namespace trireme
