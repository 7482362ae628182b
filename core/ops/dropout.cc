// Dropout. The mask is never stored: backward draws it again.
#include "core/ops/dropout.h"

#include <algorithm>
#include <cmath>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/ops.h"

namespace trireme {

Tensor Dropout(const Tensor& x, double rate, RngKey key, const TokenLayout& layout) {
  CHECK(rate >= 0 && rate < 1) << rate << " [dropout]";
  CHECK(x.rank() >= 1 && layout.sample.shape() == Shape({x.dim(0)}) &&
        layout.position.shape() == Shape({x.dim(0)}))
      << x.shape() << " with a layout of " << layout.sample.shape() << " [dropout]";
  CHECK(layout.sample.dtype() == DType::kI64 && layout.position.dtype() == DType::kI32)
      << "[dropout]";
  if (rate == 0) return x;
  // UniformFromBits(bits) >= rate, in integers.
  const auto threshold =
      static_cast<uint32_t>(std::min(std::ceil(rate * 0x1p32 - 0.5), 0x1p32 - 1));
  const auto masked = [=, sample = layout.sample.Contiguous(),
                       position = layout.position.Contiguous()](const Tensor& x) {
    const int64_t n = x.dim(0), channels = n == 0 ? 0 : x.numel() / n;
    const Tensor rows = x.Contiguous().WithShape({n, channels});
    const Tensor y =
        Tensor::Empty(x.device(), rows.shape(), x.dtype(), MemoryKind::kActivations, "dropout");
    Launch(x.device(), &KernelTable::Dropout,
           DropoutArgs{rows.view(), sample.view(), position.view(), y.view(), key, threshold,
                       1 / (1 - rate)});
    return y.WithShape(x.shape());
  };
  return Record("dropout", {x}, masked(x),
                [masked](absl::Span<const Tensor> grads) -> Grads { return {masked(grads[0])}; });
}

}  // namespace trireme
