// Gather and ScatterAdd along a dim, each the other's backward.
#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/indexing.h"
#include "core/ops/layout.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

// x cut to the sizes of `index` in all dims but dim.
Tensor CutToIndex(const Tensor& x, int dim, const Tensor& index) {
  return x.Detach().AsStrided(index.shape().WithDim(dim, x.dim(dim)), x.strides(), 0);
}

Tensor GatherRaw(const Tensor& x, int dim, const Tensor& index) {
  const Tensor x3 = AroundDim(CutToIndex(x, dim, index), dim), index3 = AroundDim(index, dim);
  const Tensor y =
      Tensor::Empty(x.device(), index3.shape(), x.dtype(), MemoryKind::kActivations, "gather");
  Launch(x.device(), &KernelTable::Gather, GatherArgs{x3.view(), index3.view(), y.view()});
  return y.WithShape(index.shape());
}

// y, contiguous and in the accumulation type, += src at index.
void ScatterAddRaw(const Tensor& y, int dim, const Tensor& index, const Tensor& src) {
  const Tensor part = CutToIndex(y, dim, index);
  const Tensor part3 = AroundDim(part, dim), index3 = AroundDim(index, dim);
  Launch(y.device(), &KernelTable::ScatterAdd,
         ScatterAddArgs{index3.view(), AroundDim(src, dim).view(), part3.view()});
  if (!part.is_contiguous()) part.CopyFrom(part3.WithShape(part.shape()));
}

Tensor CheckedIndex(const Tensor& x, int dim, const Tensor& index, const char* op) {
  CHECK(index.dtype() == DType::kI32 || index.dtype() == DType::kI64)
      << DTypeName(index.dtype()) << " index [" << op << "]";
  CHECK_EQ(index.rank(), x.rank()) << "[" << op << "]";
  for (int i = 0; i < x.rank(); ++i) {
    CHECK(i == dim || index.dim(i) <= x.dim(i))
        << "index " << index.shape() << " of " << x.shape() << " [" << op << "]";
  }
  return To(index, DType::kI64).Contiguous();
}

}  // namespace

Tensor Gather(const Tensor& x, int dim, const Tensor& index) {
  dim = x.shape().CheckDim(dim);
  const Tensor index64 = CheckedIndex(x, dim, index, "gather");
  return Record("gather", {x}, GatherRaw(x, dim, index64),
                [=, x_shape = x.shape()](absl::Span<const Tensor> grads) -> Grads {
                  const Tensor& dy = grads[0];
                  const Tensor dx =
                      Tensor::Zeros(dy.device(), x_shape, AccumulationType(dy.dtype()),
                                    MemoryKind::kActivations, "gather dx");
                  ScatterAddRaw(dx, dim, index64, dy);
                  return {To(dx, dy.dtype())};
                });
}

Tensor ScatterAdd(const Tensor& x, int dim, const Tensor& index, const Tensor& src) {
  dim = x.shape().CheckDim(dim);
  CHECK(src.shape() == index.shape() && src.dtype() == x.dtype())
      << DTypeName(src.dtype()) << src.shape() << " at index " << index.shape() << " of "
      << DTypeName(x.dtype()) << " [scatter_add]";
  const Tensor index64 = CheckedIndex(x, dim, index, "scatter_add");
  const Tensor sum = x.CopyTo(AccumulationType(x.dtype()), MemoryKind::kActivations, "scatter_add");
  ScatterAddRaw(sum, dim, index64, src);
  const bool wants_dx = x.requires_grad(), wants_dsrc = src.requires_grad();
  const Tensor y = sum.dtype() == x.dtype() ? sum : sum.CopyTo(x.dtype());
  return Record("scatter_add", {x, src}, y, [=](absl::Span<const Tensor> grads) -> Grads {
    return {wants_dx ? grads[0] : Tensor(),
            wants_dsrc ? GatherRaw(grads[0], dim, index64) : Tensor()};
  });
}

}  // namespace trireme
