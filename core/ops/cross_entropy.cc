// CrossEntropy, plain and fused with the output projection. Losses of single tokens are summed in
// the order of a fixed tree, in the accumulation type.
#include <algorithm>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
#include "core/ops/layout.h"
#include "core/ops/matmul.h"
#include "core/ops/ops.h"
#include "core/ops/softmax.h"

namespace trireme {
namespace {

void CheckLabels(const Tensor& labels, int64_t n, const char* op) {
  CHECK(labels.dtype() == DType::kI32 && labels.shape() == Shape({n}))
      << DTypeName(labels.dtype()) << labels.shape() << " labels of " << n << " tokens [" << op
      << "]";
}

struct PerToken {
  PerToken(const Tensor& x, DType acc)
      : losses(
            Tensor::Empty(x.device(), {x.dim(0)}, acc, MemoryKind::kActivations, "cross_entropy")),
        norms(Tensor::Empty(x.device(), {x.dim(0), 2}, acc, MemoryKind::kActivations,
                            "cross_entropy")) {}
  Tensor losses, norms;
};

}  // namespace

Tensor CrossEntropy(const Tensor& logits, const Tensor& labels) {
  CHECK_EQ(logits.rank(), 2) << "[cross_entropy]";
  CheckLabels(labels, logits.dim(0), "cross_entropy");
  const Tensor x = logits.Contiguous(), at = labels.Contiguous();
  const DType acc = AccumulationType(x.dtype());
  const PerToken rows(x, acc);
  Launch(x.device(), &KernelTable::CrossEntropy,
         CrossEntropyArgs{x.view(), at.view(), rows.losses.view(), rows.norms.view(), 0, x.dim(1)});
  return Record("cross_entropy", {logits}, Sum(rows.losses),
                [x, at, norms = rows.norms](absl::Span<const Tensor> grads) -> Grads {
                  const Tensor dx = Tensor::Empty(x.device(), x.shape(), x.dtype(),
                                                  MemoryKind::kActivations, "cross_entropy dx");
                  Launch(x.device(), &KernelTable::CrossEntropyBackward,
                         CrossEntropyBackwardArgs{x.view(), at.view(), norms.view(),
                                                  grads[0].view(), dx.view()});
                  return {dx};
                });
}

namespace {

// y = seed * x, or y += seed * x.
void Scale(const Tensor& x, const Tensor& seed, const Tensor& y, bool accumulate) {
  Launch(x.device(), &KernelTable::Scale, ScaleArgs{x.view(), seed.view(), y.view(), accumulate});
}

Tensor Rows(const Tensor& x, int64_t begin, int64_t size) {
  return x.AsStrided(x.shape().WithDim(0, size), x.strides(), begin * x.strides()[0]);
}

}  // namespace

int64_t LogitChunkTokens(int64_t vocabulary) {
  // Four million, in multiples of 64 tokens for the GEMM's sake.
  return std::max<int64_t>(64, (int64_t{4} << 20) / std::max<int64_t>(1, vocabulary) / 64 * 64);
}

Tensor LinearCrossEntropy(const Tensor& x, const Tensor& weight, const Tensor& labels,
                          int64_t chunk_tokens) {
  const auto nothing_to_merge = [](const Tensor&, const Tensor&, const Tensor&) {};
  return LinearCrossEntropy(x, weight, labels, {0, weight.dim(0)}, nothing_to_merge, chunk_tokens);
}

Tensor LinearCrossEntropy(const Tensor& x, const Tensor& weight, const Tensor& labels,
                          const ClassRange& classes, const MergeClassesFn& merge,
                          int64_t chunk_tokens) {
  CHECK(x.rank() == 2 && weight.rank() == 2 && x.dim(1) == weight.dim(1) &&
        x.dtype() == weight.dtype())
      << DTypeName(x.dtype()) << x.shape() << " x " << DTypeName(weight.dtype()) << weight.shape()
      << " [linear_cross_entropy]";
  CheckLabels(labels, x.dim(0), "linear_cross_entropy");
  CHECK_GE(chunk_tokens, 0) << "[linear_cross_entropy]";
  Device& device = x.device();
  const DType dtype = x.dtype(), acc = AccumulationType(dtype);
  const int64_t n = x.dim(0), vocabulary = weight.dim(0);
  const Tensor x_data = x.Contiguous(), w = weight.Contiguous(), at = labels.Contiguous();
  const bool wants_dx = GradEnabled() && x.requires_grad();
  const bool wants_dw = GradEnabled() && weight.requires_grad();
  const auto empty = [&](const Shape& shape, DType type, MemoryKind kind) {
    return Tensor::Empty(device, shape, type, kind, "linear_cross_entropy");
  };

  const int64_t chunk = std::min(n, chunk_tokens > 0 ? chunk_tokens : LogitChunkTokens(vocabulary));
  const PerToken rows(x, acc);
  Tensor dx, dw;
  if (wants_dx) dx = empty(x.shape(), dtype, MemoryKind::kActivations);
  if (wants_dw) dw = empty(w.shape(), acc, MemoryKind::kGradients);
  if (wants_dw && n == 0) dw.Fill(0);
  {
    const Tensor logits_memory = empty({chunk, vocabulary}, acc, MemoryKind::kWorkspace);
    Tensor dlogits_memory = logits_memory;  // In place, where the type allows.
    if ((wants_dx || wants_dw) && dtype != acc) {
      dlogits_memory = empty({chunk, vocabulary}, dtype, MemoryKind::kWorkspace);
    }
    for (int64_t begin = 0; begin < n; begin += chunk) {
      const int64_t size = std::min(chunk, n - begin);
      const Tensor x_chunk = Rows(x_data, begin, size), labels_chunk = at.View1D(begin, size);
      const Tensor logits = Rows(logits_memory, 0, size), dlogits = Rows(dlogits_memory, 0, size);
      const Tensor losses = rows.losses.View1D(begin, size), norms = Rows(rows.norms, begin, size);
      RunGemm(x_chunk, TransposeLast(w), logits, 0);
      Launch(device, &KernelTable::CrossEntropy,
             CrossEntropyArgs{logits.view(), labels_chunk.view(), losses.view(), norms.view(),
                              classes.first, classes.count});
      merge(labels_chunk, losses, norms);
      if (!wants_dx && !wants_dw) continue;
      Launch(device, &KernelTable::CrossEntropyBackward,
             CrossEntropyBackwardArgs{logits.view(), labels_chunk.view(), norms.view(), View(),
                                      dlogits.view(), classes.first});
      if (wants_dx) RunGemm(dlogits, w, Rows(dx, begin, size), 0);
      if (wants_dw) RunGemm(TransposeLast(dlogits), x_chunk, dw, begin == 0 ? 0 : 1);
    }
  }

  const bool split = weight.is_leaf();
  const auto backward = [=](absl::Span<const Tensor> grads) -> Grads {
    // dx and dw are this closure's own: scaled in place.
    if (wants_dx) Scale(dx, grads[0], dx, /*accumulate=*/false);
    if (!wants_dw || split) return {dx, Tensor()};
    Scale(dw, grads[0], dw, /*accumulate=*/false);
    return {dx, To(dw, dtype)};
  };
  WeightFn weights = nullptr;
  if (wants_dw && split) {
    weights = [dw, leaf = weight](absl::Span<const Tensor> grads, GradientSink& sink) {
      if (sink.Adopt(leaf, dw)) return Scale(dw, grads[0], dw, /*accumulate=*/false);
      const GradientSink::Slot slot = sink.Open(leaf);
      if (slot.buffer.defined()) Scale(dw, grads[0], slot.buffer, !slot.fresh);
    };
  }
  return Record("linear_cross_entropy", {x, weight}, Sum(rows.losses), backward,
                std::move(weights));
}

}  // namespace trireme
