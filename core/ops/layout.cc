#include "core/ops/layout.h"

#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/reduce.h"

namespace trireme {

Tensor StretchTo(const Tensor& x, const Shape& shape) {
  CHECK(BroadcastShapes(x.shape(), shape) == shape)
      << x.shape() << " does not stretch to " << shape << " [broadcast]";
  Shape strides = shape;
  const int added = shape.rank() - x.rank();
  for (int i = 0; i < shape.rank(); ++i) {
    const bool stretched = i < added || (x.dim(i - added) == 1 && shape[i] != 1);
    strides[i] = stretched ? 0 : x.strides()[i - added];
  }
  return x.AsStrided(shape, strides, 0);
}

Tensor SumTo(const Tensor& grad, const Shape& shape) {
  if (grad.shape() == shape) return grad;
  const int added = grad.rank() - shape.rank();
  const auto stretched = [&](int i) {
    return i < added || (shape[i - added] == 1 && grad.dim(i) != 1);
  };
  Tensor sum = grad.Contiguous();
  // Runs of neighbouring stretched dimensions are summed at once, the last run first, so that the
  // sizes in front of a run stay those of grad.
  int64_t inner = 1;
  for (int end = grad.rank(); end > 0;) {
    int begin = end - 1;
    if (!stretched(begin)) {
      inner *= grad.dim(begin);
      end = begin;
      continue;
    }
    while (begin > 0 && stretched(begin - 1)) --begin;
    int64_t outer = 1, n = 1;
    for (int i = 0; i < begin; ++i) outer *= grad.dim(i);
    for (int i = begin; i < end; ++i) n *= grad.dim(i);
    const Tensor x = sum.WithShape({outer, n, inner});
    sum = Tensor::Empty(grad.device(), {outer, inner}, grad.dtype(), MemoryKind::kActivations,
                        "broadcast dx");
    Launch(grad.device(), &KernelTable::Sum, SumArgs{x.view(), sum.view()});
    end = begin;
  }
  return sum.WithShape(shape);
}

Tensor AroundDim(const Tensor& x, int dim) {
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < dim; ++i) outer *= x.dim(i);
  for (int i = dim + 1; i < x.rank(); ++i) inner *= x.dim(i);
  return x.Contiguous().WithShape({outer, x.dim(dim), inner});
}

Tensor AsRows(const Tensor& x) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < x.rank(); ++i) rows *= x.dim(i);
  return x.Contiguous().WithShape({rows, x.dim(-1)});
}

}  // namespace trireme
