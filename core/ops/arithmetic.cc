// Add, Sub, Mul, Div, Maximum, Minimum, with broadcasting.
#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/elementwise.h"
#include "core/ops/layout.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

// op(a, b), outside the graph.
Tensor Apply(BinaryOp op, const char* name, const Tensor& a, const Tensor& b) {
  CHECK(a.dtype() == b.dtype()) << DTypeName(a.dtype()) << " and " << DTypeName(b.dtype()) << " ["
                                << name << "]";
  const Shape shape = BroadcastShapes(a.shape(), b.shape());
  const Tensor y = Tensor::Empty(a.device(), shape, a.dtype(), MemoryKind::kActivations, name);
  Launch(a.device(), &KernelTable::Binary,
         BinaryArgs{StretchTo(a, shape).view(), StretchTo(b, shape).view(), y.view(), op});
  return y;
}

Tensor Scaled(const Tensor& x, double factor) {
  const Tensor y = Tensor::Empty(x.device(), x.shape(), x.dtype(), MemoryKind::kActivations, "mul");
  Launch(x.device(), &KernelTable::Unary, UnaryArgs{x.view(), y.view(), UnaryOp::kMul, factor});
  return y;
}

// What the gradient of one side of a binary op is made of, kept only where that gradient is wanted.
Tensor KeepIf(bool wanted, const Tensor& x) { return wanted ? x.Detach() : Tensor(); }

}  // namespace

Tensor Add(const Tensor& a, const Tensor& b) {
  const bool wants_da = a.requires_grad(), wants_db = b.requires_grad();
  return Record(
      "add", {a, b}, Apply(BinaryOp::kAdd, "add", a, b),
      [=, a_shape = a.shape(), b_shape = b.shape()](absl::Span<const Tensor> grads) -> Grads {
        const Tensor& dy = grads[0];
        return {wants_da ? SumTo(dy, a_shape) : Tensor(), wants_db ? SumTo(dy, b_shape) : Tensor()};
      });
}

Tensor Sub(const Tensor& a, const Tensor& b) {
  const bool wants_da = a.requires_grad(), wants_db = b.requires_grad();
  return Record(
      "sub", {a, b}, Apply(BinaryOp::kSub, "sub", a, b),
      [=, a_shape = a.shape(), b_shape = b.shape()](absl::Span<const Tensor> grads) -> Grads {
        const Tensor& dy = grads[0];
        return {wants_da ? SumTo(dy, a_shape) : Tensor(),
                wants_db ? Scaled(SumTo(dy, b_shape), -1) : Tensor()};
      });
}

Tensor Mul(const Tensor& a, const Tensor& b) {
  const Tensor y = Apply(BinaryOp::kMul, "mul", a, b);
  return Record(
      "mul", {a, b}, y,
      [a_for_db = KeepIf(b.requires_grad(), a), b_for_da = KeepIf(a.requires_grad(), b),
       a_shape = a.shape(), b_shape = b.shape()](absl::Span<const Tensor> grads) -> Grads {
        const Tensor& dy = grads[0];
        Tensor da, db;
        if (b_for_da.defined()) {
          da = SumTo(Apply(BinaryOp::kMul, "mul dx", dy, b_for_da), a_shape);
        }
        if (a_for_db.defined()) {
          db = SumTo(Apply(BinaryOp::kMul, "mul dx", dy, a_for_db), b_shape);
        }
        return {da, db};
      });
}

Tensor Div(const Tensor& a, const Tensor& b) {
  const Tensor y = Apply(BinaryOp::kDiv, "div", a, b);
  const bool wants_da = a.requires_grad();
  return Record("div", {a, b}, y,
                [wants_da, y_for_db = KeepIf(b.requires_grad(), y), b = b.Detach(),
                 a_shape = a.shape()](absl::Span<const Tensor> grads) -> Grads {
                  const Tensor da = Apply(BinaryOp::kDiv, "div dx", grads[0], b);
                  Tensor db;
                  if (y_for_db.defined()) {
                    db = Apply(BinaryOp::kMul, "div dx", da, y_for_db);
                    db = Scaled(SumTo(db, b.shape()), -1);
                  }
                  return {wants_da ? SumTo(da, a_shape) : Tensor(), db};
                });
}

namespace {

Tensor Extremum(BinaryOp op, BinaryOp share, const char* name, const Tensor& a, const Tensor& b) {
  const bool wants_da = a.requires_grad(), wants_db = b.requires_grad();
  return Record(name, {a, b}, Apply(op, name, a, b),
                [=, a = a.Detach(), b = b.Detach()](absl::Span<const Tensor> grads) -> Grads {
                  const auto side = [&](const Tensor& x, const Tensor& other) {
                    const Tensor part = Apply(share, name, x, other);
                    return SumTo(Apply(BinaryOp::kMul, name, grads[0], part), x.shape());
                  };
                  return {wants_da ? side(a, b) : Tensor(), wants_db ? side(b, a) : Tensor()};
                });
}

}  // namespace

Tensor Maximum(const Tensor& a, const Tensor& b) {
  return Extremum(BinaryOp::kMaximum, BinaryOp::kMaximumShare, "maximum", a, b);
}

Tensor Minimum(const Tensor& a, const Tensor& b) {
  return Extremum(BinaryOp::kMinimum, BinaryOp::kMinimumShare, "minimum", a, b);
}

}  // namespace trireme
