// Softmax and LogSoftmax. Both save their output.
#include "core/ops/softmax.h"

#include "core/autograd/node.h"
#include "core/device/kernel.h"
#include "core/ops/layout.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

Tensor SoftmaxOf(const char* name, const Tensor& x, int dim, bool log) {
  if (x.shape().CheckDim(dim) != x.rank() - 1) {
    return Transpose(SoftmaxOf(name, Transpose(x, dim, -1), -1, log), dim, -1);
  }
  const Tensor rows = AsRows(x);
  const Tensor y =
      Tensor::Empty(x.device(), rows.shape(), x.dtype(), MemoryKind::kActivations, name);
  Launch(x.device(), &KernelTable::Softmax, SoftmaxArgs{rows.view(), y.view(), log});
  return Record(name, {x}, y.WithShape(x.shape()),
                [=, x_shape = x.shape()](absl::Span<const Tensor> grads) -> Grads {
                  const Tensor dy = AsRows(grads[0]);
                  const Tensor dx = Tensor::Empty(dy.device(), dy.shape(), dy.dtype(),
                                                  MemoryKind::kActivations, name);
                  Launch(dy.device(), &KernelTable::SoftmaxBackward,
                         SoftmaxBackwardArgs{y.view(), dy.view(), dx.view(), log});
                  return {dx.WithShape(x_shape)};
                });
}

}  // namespace

Tensor Softmax(const Tensor& x, int dim) { return SoftmaxOf("softmax", x, dim, false); }

Tensor LogSoftmax(const Tensor& x, int dim) { return SoftmaxOf("log_softmax", x, dim, true); }

}  // namespace trireme
