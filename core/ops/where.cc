// Equal, Less, LessEqual and Where.
#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/elementwise.h"
#include "core/ops/layout.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

Tensor Compare(CompareOp op, const char* name, const Tensor& a, const Tensor& b) {
  CHECK(a.dtype() == b.dtype()) << DTypeName(a.dtype()) << " and " << DTypeName(b.dtype()) << " ["
                                << name << "]";
  const Shape shape = BroadcastShapes(a.shape(), b.shape());
  const Tensor y = Tensor::Empty(a.device(), shape, DType::kU8, MemoryKind::kActivations, name);
  Launch(a.device(), &KernelTable::Compare,
         CompareArgs{StretchTo(a, shape).view(), StretchTo(b, shape).view(), y.view(), op});
  return y;
}

// Outside the graph.
Tensor Select(const Tensor& condition, const Tensor& a, const Tensor& b) {
  const Shape shape = BroadcastShapes(condition.shape(), BroadcastShapes(a.shape(), b.shape()));
  const Tensor y = Tensor::Empty(a.device(), shape, a.dtype(), MemoryKind::kActivations, "where");
  Launch(a.device(), &KernelTable::Where,
         WhereArgs{StretchTo(condition, shape).view(), StretchTo(a, shape).view(),
                   StretchTo(b, shape).view(), y.view()});
  return y;
}

}  // namespace

Tensor Equal(const Tensor& a, const Tensor& b) { return Compare(CompareOp::kEqual, "equal", a, b); }

Tensor Less(const Tensor& a, const Tensor& b) { return Compare(CompareOp::kLess, "less", a, b); }

Tensor LessEqual(const Tensor& a, const Tensor& b) {
  return Compare(CompareOp::kLessEqual, "less_equal", a, b);
}

Tensor Where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  CHECK(condition.dtype() == DType::kU8) << DTypeName(condition.dtype()) << " condition [where]";
  CHECK(a.dtype() == b.dtype()) << DTypeName(a.dtype()) << " and " << DTypeName(b.dtype())
                                << " [where]";
  const bool wants_da = a.requires_grad(), wants_db = b.requires_grad();
  return Record("where", {a, b}, Select(condition, a, b),
                [=, condition = condition.Detach(), a_shape = a.shape(),
                 b_shape = b.shape()](absl::Span<const Tensor> grads) -> Grads {
                  const Tensor& dy = grads[0];
                  const Tensor zero = Tensor::Zeros(dy.device(), {}, dy.dtype());
                  return {wants_da ? SumTo(Select(condition, dy, zero), a_shape) : Tensor(),
                          wants_db ? SumTo(Select(condition, zero, dy), b_shape) : Tensor()};
                });
}

}  // namespace trireme
