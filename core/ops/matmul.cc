// MatMul and Linear: every product of the catalogue goes through the Gemm kernel.
#include "core/ops/matmul.h"

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/gemm.h"
#include "core/ops/layout.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

// x [..., k] as a matrix [rows, k]; a matrix stays as it is, whatever its strides.
Tensor AsMatrix(const Tensor& x) {
  if (x.rank() == 2) return x.Detach();
  int64_t rows = 1;
  for (int i = 0; i < x.rank() - 1; ++i) rows *= x.dim(i);
  return x.Contiguous().WithShape({rows, x.dim(-1)});
}

Shape BatchDims(const Shape& shape) { return Shape(shape.dims().subspan(0, shape.rank() - 2)); }

Shape WithMatrix(Shape batch, int64_t rows, int64_t columns) {
  batch.Append(rows);
  batch.Append(columns);
  return batch;
}

// The gradient of a factor of shape `shape`: left * right, summed over the batches that the
// factor was stretched along, transposed when the factor was read transposed.
Tensor FactorGradient(const Tensor& left, const Tensor& right, const Shape& shape, bool transposed,
                      DType dtype) {
  const int64_t rows = left.dim(-2), columns = right.dim(-1);
  const Shape full = transposed ? WithMatrix(BatchDims(left.shape()), columns, rows)
                                : WithMatrix(BatchDims(left.shape()), rows, columns);
  // Sums over batches are kept in the accumulation type, as those inside one product are.
  const bool reduces = !(full == shape);
  const Tensor grad = Tensor::Empty(left.device(), full, reduces ? AccumulationType(dtype) : dtype,
                                    MemoryKind::kActivations, "matmul grad");
  RunGemm(left, right, transposed ? TransposeLast(grad) : grad, 0);
  if (!reduces) return grad;
  const Tensor sum = SumTo(grad, shape);
  return sum.dtype() == dtype ? sum : sum.CopyTo(dtype);
}

}  // namespace

Tensor TransposeLast(const Tensor& x) {
  Shape shape = x.shape(), strides = x.strides();
  std::swap(shape[-1], shape[-2]);
  std::swap(strides[-1], strides[-2]);
  return x.AsStrided(shape, strides, 0);
}

void RunGemm(const Tensor& a, const Tensor& b, const Tensor& c, double beta, const Tensor& bias) {
  GemmArgs args{a.view(), b.view(), c.view()};
  args.beta = beta;
  if (bias.defined()) args.bias = bias.view();
  Launch(c.device(), &KernelTable::Gemm, args);
}

Tensor MatMul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) {
  CHECK(a.rank() >= 2 && b.rank() >= 2 && a.dtype() == b.dtype())
      << DTypeName(a.dtype()) << a.shape() << " x " << DTypeName(b.dtype()) << b.shape()
      << " [matmul]";
  const Tensor a_matrix = transpose_a ? TransposeLast(a) : a.Detach();
  const Tensor b_matrix = transpose_b ? TransposeLast(b) : b.Detach();
  const int64_t m = a_matrix.dim(-2), k = a_matrix.dim(-1), n = b_matrix.dim(-1);
  CHECK_EQ(k, b_matrix.dim(-2)) << a.shape() << " x " << b.shape() << " [matmul]";
  const Shape batch = BroadcastShapes(BatchDims(a.shape()), BatchDims(b.shape()));
  const Tensor left = StretchTo(a_matrix, WithMatrix(batch, m, k));
  const Tensor right = StretchTo(b_matrix, WithMatrix(batch, k, n));
  Tensor c = Tensor::Empty(a.device(), WithMatrix(batch, m, n), a.dtype(), MemoryKind::kActivations,
                           "matmul");
  RunGemm(left, right, c, 0);
  // Each factor is kept for the gradient of the other.
  const Tensor right_for_da = a.requires_grad() ? right : Tensor();
  const Tensor left_for_db = b.requires_grad() ? left : Tensor();
  return Record(
      "matmul", {a, b}, c,
      [=, a_shape = a.shape(), b_shape = b.shape()](absl::Span<const Tensor> grads) -> Grads {
        const Tensor& dc = grads[0];
        Tensor da, db;
        if (right_for_da.defined()) {
          da = FactorGradient(dc, TransposeLast(right_for_da), a_shape, transpose_a, dc.dtype());
        }
        if (left_for_db.defined()) {
          db = FactorGradient(TransposeLast(left_for_db), dc, b_shape, transpose_b, dc.dtype());
        }
        return {da, db};
      });
}

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

  const bool split = weight.is_leaf() && weight.requires_grad();
  const Tensor w_for_dx = x.requires_grad() ? w : Tensor();
  const Tensor x_for_dw = weight.requires_grad() && !split ? x2 : Tensor();
  const auto backward = [=, wants_dbias = bias.requires_grad(),
                         x_shape = x.shape()](absl::Span<const Tensor> grads) -> Grads {
    const Tensor dy = AsMatrix(grads[0]);
    Tensor dx, dw, dbias;
    if (w_for_dx.defined()) {
      dx = Tensor::Empty(dy.device(), {dy.dim(0), w_for_dx.dim(1)}, dy.dtype(),
                         MemoryKind::kActivations, "linear dx");
      RunGemm(dy, w_for_dx, dx, 0);
      dx = dx.WithShape(x_shape);
    }
    if (x_for_dw.defined()) {
      dw = Tensor::Empty(dy.device(), {dy.dim(1), x_for_dw.dim(1)}, dy.dtype(),
                         MemoryKind::kActivations, "linear dw");
      RunGemm(TransposeLast(dy), x_for_dw, dw, 0);
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
