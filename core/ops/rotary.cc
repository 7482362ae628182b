// Rotary position embedding (Su et al. 2021, "RoFormer"), pairs (i, i + d/2). A rotation: its
// backward is the rotation back, and nothing but the positions is saved.
#include "core/ops/rotary.h"

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

Tensor Rotate(const Tensor& x, const Tensor& positions, double theta, bool inverse) {
  const Tensor in = x.strides()[-1] == 1 ? x : x.Contiguous();
  const Tensor y =
      Tensor::Empty(x.device(), x.shape(), x.dtype(), MemoryKind::kActivations, "rotary");
  Launch(x.device(), &KernelTable::Rotary,
         RotaryArgs{in.view(), positions.view(), y.view(), theta, inverse});
  return y;
}

}  // namespace

Tensor Rotary(const Tensor& x, const Tensor& positions, double theta) {
  CHECK(x.rank() == 3 && x.dim(2) % 2 == 0) << x.shape() << " [rotary]";
  CHECK(positions.dtype() == DType::kI32 && positions.shape() == Shape({x.dim(0)}))
      << DTypeName(positions.dtype()) << positions.shape() << " positions of " << x.shape()
      << " [rotary]";
  CHECK_GT(theta, 0) << "[rotary]";
  const Tensor at = positions.Contiguous();
  return Record("rotary", {x}, Rotate(x, at, theta, /*inverse=*/false),
                [at, theta](absl::Span<const Tensor> grads) -> Grads {
                  return {Rotate(grads[0], at, theta, /*inverse=*/true)};
                });
}

}  // namespace trireme
