// MatMul and Linear: every product of the catalogue goes through the Gemm kernel.
#include "core/ops/matmul.h"

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

Tensor TransposeLast(const Tensor& x) {
  Shape shape = x.shape(), strides = x.strides();
  std::swap(shape[-1], shape[-2]);
  std::swap(strides[-1], strides[-2]);
  return x.AsStrided(shape, strides, 0);
}

// x [..., k] as a matrix [rows, k].
Tensor AsMatrix(const Tensor& x) {
  const int64_t columns = x.dim(-1);
  return x.Contiguous().WithShape({columns == 0 ? 0 : x.numel() / columns, columns});
}

void RunGemm(const Tensor& a, const Tensor& b, const Tensor& c, double beta,
             const Tensor& bias = Tensor()) {
  GemmArgs args{a.view(), b.view(), c.view()};
  args.beta = beta;
  if (bias.defined()) args.bias = bias.view();
  Launch(c.device(), &KernelTable::Gemm, args);
}

}  // namespace

Tensor Linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  CHECK(weight.rank() == 2 && x.dim(-1) == weight.dim(1))
      << x.shape() << " x " << weight.shape() << " [linear]";
  CHECK(!bias.defined() || bias.shape() == Shape({weight.dim(0)})) << bias.shape() << " [linear]";
  const Tensor x2 = AsMatrix(x), w = weight.Detach();
  const Shape y_shape = x.shape().WithDim(-1, weight.dim(0));
  Tensor y = Tensor::Empty(x.device(), {x2.dim(0), w.dim(0)}, x.dtype(), MemoryKind::kActivations,
                           "linear");
  RunGemm(x2, TransposeLast(w), y, 0, bias);
  y = y.WithShape(y_shape);

  const bool wants_dx = x.requires_grad(), split = weight.is_leaf();
  const bool wants_dw = weight.requires_grad() && !split;
  const bool wants_dbias = bias.requires_grad();
  const Shape x_shape = x.shape();
  const auto backward = [=](absl::Span<const Tensor> grads) -> Grads {
    const Tensor dy = AsMatrix(grads[0]);
    Tensor dx, dw, dbias;
    if (wants_dx) {
      dx = Tensor::Empty(dy.device(), {dy.dim(0), w.dim(1)}, dy.dtype(), MemoryKind::kActivations,
                         "linear dx");
      RunGemm(dy, w, dx, 0);
      dx = dx.WithShape(x_shape);
    }
    if (wants_dw) {
      dw = Tensor::Empty(dy.device(), w.shape(), w.dtype(), MemoryKind::kActivations, "linear dw");
      RunGemm(TransposeLast(dy), x2, dw, 0);
    }
    if (wants_dbias) dbias = Sum(dy, 0);
    return {dx, dw, dbias};
  };
  WeightFn weights = nullptr;
  if (split) {
    weights = [x2, leaf = weight](absl::Span<const Tensor> grads, GradientSink& sink) {
      const GradientSink::Slot slot = sink.Open(leaf);
      if (!slot.buffer.defined()) return;
      RunGemm(TransposeLast(AsMatrix(grads[0])), x2, slot.buffer, slot.fresh ? 0 : 1);
    };
  }
  return Record("linear", {x, weight, bias}, y, backward, std::move(weights));
}

}  // namespace trireme
