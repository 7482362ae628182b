// SwiGLU: silu(gate) * up (Shazeer 2020). Saves gate and up.
#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/elementwise.h"
#include "core/ops/ops.h"

namespace trireme {

Tensor SwiGlu(const Tensor& gate, const Tensor& up) {
  CHECK(gate.shape() == up.shape() && gate.dtype() == up.dtype())
      << DTypeName(gate.dtype()) << gate.shape() << " and " << DTypeName(up.dtype()) << up.shape()
      << " [swiglu]";
  const Tensor y =
      Tensor::Empty(gate.device(), gate.shape(), gate.dtype(), MemoryKind::kActivations, "swiglu");
  Launch(gate.device(), &KernelTable::SwiGlu, SwiGluArgs{gate.view(), up.view(), y.view()});
  return Record(
      "swiglu", {gate, up}, y,
      [gate = gate.Detach(), up = up.Detach()](absl::Span<const Tensor> grads) -> Grads {
        const Tensor& dy = grads[0];
        const auto like = [](const Tensor& x) {
          return Tensor::Empty(x.device(), x.shape(), x.dtype(), MemoryKind::kActivations,
                               "swiglu dx");
        };
        const Tensor dgate = like(gate), dup = like(up);
        Launch(dy.device(), &KernelTable::SwiGluBackward,
               SwiGluBackwardArgs{gate.view(), up.view(), dy.view(), dgate.view(), dup.view()});
        return {dgate, dup};
      });
}

}  // namespace trireme
