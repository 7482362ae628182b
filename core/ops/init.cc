#include "core/ops/init.h"

#include "core/device/kernel.h"
#include "core/tensor/tensor.h"

namespace trireme {

void DrawNormal(const Tensor& dst, RngKey key, double stddev, const Shape& global,
                const Shape& begin) {
  const Shape strides = DenseStrides(global);
  DrawNormalArgs args{dst.view(), key, stddev, {}, 0};
  for (int i = 0; i < global.rank(); ++i) {
    args.global_strides[i] = strides[i];
    args.first += begin[i] * strides[i];
  }
  Launch(dst.device(), &KernelTable::DrawNormal, args);
}

}  // namespace trireme
