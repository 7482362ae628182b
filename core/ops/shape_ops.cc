// Reshape, Transpose, Slice, Broadcast, Concat, To.
#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/ops/layout.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

// Strides of `shape` over the elements of x without a copy; false when none exist. x's dimensions
// that lie behind one another are one run; each run must be covered by whole dimensions of `shape`.
bool ReshapeStrides(const Tensor& x, const Shape& shape, Shape* strides) {
  *strides = DenseStrides(shape);
  int next = shape.rank() - 1;
  for (int end = x.rank(); end > 0;) {
    int begin = end - 1;
    int64_t run = x.dim(begin), stride = x.strides()[begin];
    while (begin > 0 &&
           (x.dim(begin - 1) == 1 || run == 1 || x.strides()[begin - 1] == stride * run)) {
      if (run == 1) stride = x.strides()[begin - 1];
      --begin;
      run *= x.dim(begin);
    }
    int64_t covered = 1;
    while (next >= 0 && covered * shape[next] <= run && (covered < run || shape[next] == 1)) {
      (*strides)[next] = stride * covered;
      covered *= shape[next--];
    }
    if (covered != run) return false;
    end = begin;
  }
  return true;
}

}  // namespace

Tensor Reshape(const Tensor& x, const Shape& shape) {
  CHECK_EQ(shape.numel(), x.numel()) << shape << " from " << x.shape() << " [reshape]";
  Shape strides;
  const bool is_view = x.numel() > 0 && ReshapeStrides(x, shape, &strides);
  const Tensor y = is_view ? x.AsStrided(shape, strides, 0) : x.Contiguous().WithShape(shape);
  return Record("reshape", {x}, y, [x_shape = x.shape()](absl::Span<const Tensor> grads) -> Grads {
    return {Reshape(grads[0], x_shape)};
  });
}

Tensor Transpose(const Tensor& x, int dim0, int dim1) {
  Shape shape = x.shape(), strides = x.strides();
  std::swap(shape[dim0], shape[dim1]);
  std::swap(strides[dim0], strides[dim1]);
  return Record(
      "transpose", {x}, x.AsStrided(shape, strides, 0),
      [=](absl::Span<const Tensor> grads) -> Grads { return {Transpose(grads[0], dim0, dim1)}; });
}

Tensor Slice(const Tensor& x, int dim, int64_t begin, int64_t size) {
  CHECK(begin >= 0 && size >= 0 && begin + size <= x.dim(dim))
      << "[" << begin << ", " << begin + size << ") of dim " << dim << " of " << x.shape()
      << " [slice]";
  const Tensor y = x.AsStrided(x.shape().WithDim(dim, size), x.strides(), begin * x.strides()[dim]);
  return Record("slice", {x}, y, [=, x_shape = x.shape()](absl::Span<const Tensor> grads) -> Grads {
    const Tensor& dy = grads[0];
    const Tensor dx =
        Tensor::Zeros(dy.device(), x_shape, dy.dtype(), MemoryKind::kActivations, "slice dx");
    Slice(dx, dim, begin, size).CopyFrom(dy);
    return {dx};
  });
}

Tensor Broadcast(const Tensor& x, const Shape& shape) {
  return Record("broadcast", {x}, StretchTo(x, shape),
                [x_shape = x.shape()](absl::Span<const Tensor> grads) -> Grads {
                  return {SumTo(grads[0], x_shape)};
                });
}

Tensor Concat(absl::Span<const Tensor> xs, int dim) {
  CHECK(!xs.empty()) << "[concat]";
  dim = xs[0].shape().CheckDim(dim);
  std::vector<int64_t> sizes;
  int64_t total = 0;
  for (const Tensor& x : xs) {
    CHECK(x.dtype() == xs[0].dtype() && x.rank() == xs[0].rank() &&
          x.shape().WithDim(dim, 0) == xs[0].shape().WithDim(dim, 0))
        << x.shape() << " beside " << xs[0].shape() << " along dim " << dim << " [concat]";
    sizes.push_back(x.dim(dim));
    total += x.dim(dim);
  }
  const Tensor y = Tensor::Empty(xs[0].device(), xs[0].shape().WithDim(dim, total), xs[0].dtype(),
                                 MemoryKind::kActivations, "concat");
  int64_t begin = 0;
  for (const Tensor& x : xs) {
    Slice(y, dim, begin, x.dim(dim)).CopyFrom(x);
    begin += x.dim(dim);
  }
  return Record("concat", xs, y, [=](absl::Span<const Tensor> grads) -> Grads {
    Grads dxs;
    int64_t begin = 0;
    for (const int64_t size : sizes) {
      dxs.push_back(Slice(grads[0], dim, begin, size));
      begin += size;
    }
    return dxs;
  });
}

Tensor To(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  const Tensor y = x.CopyTo(dtype, MemoryKind::kActivations, "to");
  return Record("to", {x}, y, [x_dtype = x.dtype()](absl::Span<const Tensor> grads) -> Grads {
    return {grads[0].CopyTo(x_dtype, MemoryKind::kActivations, "to dx")};
  });
}

}  // namespace trireme
