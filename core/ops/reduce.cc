// Sum, Mean, Max, ArgMax.
#include "core/ops/reduce.h"

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/indexing.h"
#include "core/ops/layout.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

Tensor Reduced(const Tensor& x, const char* name) {
  return Tensor::Empty(x.device(), {x.dim(0), x.dim(2)}, x.dtype(), MemoryKind::kActivations, name);
}

// scale * sum over everything, or over one dim. kept_shape is the output's with the summed dims
// as 1.
Tensor ScaledSum(const Tensor& x, const Tensor& x3, const Shape& shape, const Shape& kept_shape,
                 double scale, const char* name) {
  const Tensor y = Reduced(x3, name);
  Launch(x.device(), &KernelTable::Sum, SumArgs{x3.view(), y.view(), scale});
  return Record(name, {x}, y.WithShape(shape),
                [=, x_shape = x.shape()](absl::Span<const Tensor> grads) -> Grads {
                  Tensor dy = grads[0].Contiguous().WithShape(kept_shape);
                  if (scale != 1) dy = Mul(dy, scale);
                  return {StretchTo(dy, x_shape)};
                });
}

Tensor ScaledSumAll(const Tensor& x, double scale, const char* name) {
  const Tensor x3 = x.Contiguous().WithShape({1, x.numel(), 1});
  return ScaledSum(x, x3, {}, {}, scale, name);
}

Tensor ScaledSumDim(const Tensor& x, int dim, bool keep_dim, double scale, const char* name) {
  const Shape kept_shape = x.shape().WithDim(dim, 1);
  return ScaledSum(x, AroundDim(x, x.shape().CheckDim(dim)),
                   keep_dim ? kept_shape : x.shape().WithoutDim(dim), kept_shape, scale, name);
}

}  // namespace

Tensor Sum(const Tensor& x) { return ScaledSumAll(x, 1, "sum"); }

Tensor Sum(const Tensor& x, int dim, bool keep_dim) {
  return ScaledSumDim(x, dim, keep_dim, 1, "sum");
}

Tensor Mean(const Tensor& x) { return ScaledSumAll(x, 1.0 / x.numel(), "mean"); }

Tensor Mean(const Tensor& x, int dim, bool keep_dim) {
  return ScaledSumDim(x, dim, keep_dim, 1.0 / x.dim(dim), "mean");
}

Tensor Max(const Tensor& x, int dim, bool keep_dim) {
  dim = x.shape().CheckDim(dim);
  CHECK_GT(x.dim(dim), 0) << "[max]";
  const Tensor x3 = AroundDim(x, dim);
  const Tensor y = Reduced(x3, "max");
  MaxArgs args;
  args.x = x3.view();
  args.values = y.view();
  Tensor indices;
  if (NeedsGrad({x})) {
    indices = Tensor::Empty(x.device(), y.shape(), DType::kI64, MemoryKind::kActivations, "max");
    args.indices = indices.view();
  }
  Launch(x.device(), &KernelTable::Max, args);
  const Shape shape = keep_dim ? x.shape().WithDim(dim, 1) : x.shape().WithoutDim(dim);
  return Record("max", {x}, y.WithShape(shape),
                [indices, x_shape = x.shape(),
                 x3_shape = x3.shape()](absl::Span<const Tensor> grads) -> Grads {
                  const Tensor& dy = grads[0];
                  const Tensor dx =
                      Tensor::Zeros(dy.device(), x3_shape, AccumulationType(dy.dtype()),
                                    MemoryKind::kActivations, "max dx");
                  const Shape one = x3_shape.WithDim(1, 1);
                  Launch(dy.device(), &KernelTable::ScatterAdd,
                         ScatterAddArgs{indices.WithShape(one).view(),
                                        dy.Contiguous().WithShape(one).view(), dx.view()});
                  return {To(dx.WithShape(x_shape), dy.dtype())};
                });
}

Tensor ArgMax(const Tensor& x, int dim) {
  dim = x.shape().CheckDim(dim);
  CHECK_GT(x.dim(dim), 0) << "[arg_max]";
  const Tensor x3 = AroundDim(x, dim);
  const Tensor indices = Tensor::Empty(x.device(), {x3.dim(0), x3.dim(2)}, DType::kI64,
                                       MemoryKind::kActivations, "arg_max");
  MaxArgs args;
  args.x = x3.view();
  args.indices = indices.view();
  Launch(x.device(), &KernelTable::Max, args);
  return indices.WithShape(x.shape().WithoutDim(dim));
}

}  // namespace trireme
