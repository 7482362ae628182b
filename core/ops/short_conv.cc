// Short convolutions (ops.h). Saves its inputs; the gradient of a leaf weight or bias goes into the
// sink by a weight closure.
#include "core/ops/short_conv.h"

#include <utility>
#include <vector>

#include "core/autograd/node.h"
#include "core/device/kernel.h"
#include "core/ops/ops.h"
#include "core/ops/recurrence_checks.h"

namespace trireme {
namespace {

View ViewOf(const Tensor& x) { return x.defined() ? x.view() : View(); }

Tensor WithDenseRows(const Tensor& x) {
  return x.dim(1) == 1 || x.strides()[1] == 1 ? x.Detach() : x.CopyTo(x.dtype());
}

struct Saved {
  Tensor x, weight, history;
  std::vector<TokenRun> runs;

  ShortConvBackwardArgs BackwardArgs(const Tensor& dy) const {
    return {x.view(),
            {},
            ViewOf(history),
            dy.view(),
            weight.dim(1),
            runs.data(),
            static_cast<int64_t>(runs.size()),
            {},
            {},
            {},
            {}};
  }
};

// dweight and dbias (+)= their gradients, where they are defined.
void AddWeightGrads(const Saved& saved, const Tensor& grad, const Tensor& dweight,
                    const Tensor& dbias, bool accumulate) {
  const Tensor dy = WithDenseRows(grad);
  ShortConvBackwardArgs args = saved.BackwardArgs(dy);
  args.dweight = ViewOf(dweight);
  args.dbias = ViewOf(dbias);
  args.accumulate = accumulate;
  Launch(dy.device(), &KernelTable::ShortConvBackward, args);
}

}  // namespace

Tensor ShortConv(const Tensor& x, const Tensor& weight, const Tensor& bias,
                 absl::Span<const TokenRun> runs, const Tensor& history) {
  CheckShortConv(x, weight, bias, runs, history);
  constexpr const char* kLabel = "short_conv";
  const Saved saved = {WithDenseRows(x),
                       weight.Contiguous().Detach(),
                       history.defined() ? history.Contiguous().Detach() : Tensor(),
                       {runs.begin(), runs.end()}};
  const Tensor bias_data = bias.defined() ? bias.Contiguous() : Tensor();
  // Zeros where a row is in no run.
  const auto rows = [=](const Tensor& like) {
    return Tensor::Zeros(like.device(), like.shape(), like.dtype(), MemoryKind::kActivations,
                         kLabel);
  };
  const Tensor y = rows(x);
  Launch(
      x.device(), &KernelTable::ShortConv,
      ShortConvArgs{saved.x.view(), saved.weight.view(), ViewOf(bias_data), ViewOf(saved.history),
                    saved.runs.data(), static_cast<int64_t>(saved.runs.size()), y.view()});

  const DType acc = AccumulationType(x.dtype());
  const bool wants_dweight = weight.requires_grad() && !weight.is_leaf();
  const bool wants_dbias = bias.defined() && bias.requires_grad() && !bias.is_leaf();
  const auto backward = [=,
                         weight_shape = weight.shape()](absl::Span<const Tensor> grads) -> Grads {
    const Tensor dy = WithDenseRows(grads[0]);
    const Tensor dx = rows(saved.x);
    const Tensor dhistory = saved.history.defined() ? rows(saved.history) : Tensor();
    ShortConvBackwardArgs args = saved.BackwardArgs(dy);
    args.weight = saved.weight.view();
    args.dx = dx.view();
    args.dhistory = ViewOf(dhistory);
    Launch(dy.device(), &KernelTable::ShortConvBackward, args);
    const auto empty = [&](const Shape& shape, bool wanted) {
      return wanted ? Tensor::Empty(dy.device(), shape, acc, MemoryKind::kActivations, kLabel)
                    : Tensor();
    };
    Tensor dweight = empty(weight_shape, wants_dweight);
    Tensor dbias = empty({weight_shape[0]}, wants_dbias);
    if (wants_dweight || wants_dbias) AddWeightGrads(saved, dy, dweight, dbias, false);
    if (wants_dweight) dweight = dweight.CopyTo(dy.dtype());
    if (wants_dbias) dbias = dbias.CopyTo(dy.dtype());
    return {dx, dweight, dbias, dhistory};
  };
  WeightFn weights = nullptr;
  const Tensor leaf_weight = weight.is_leaf() ? weight : Tensor();
  const Tensor leaf_bias = bias.defined() && bias.is_leaf() ? bias : Tensor();
  if (leaf_weight.defined() || leaf_bias.defined()) {
    weights = [=](absl::Span<const Tensor> grads, GradientSink& sink) {
      if (leaf_weight.defined()) {
        const GradientSink::Slot slot = sink.Open(leaf_weight);
        if (slot.buffer.defined()) AddWeightGrads(saved, grads[0], slot.buffer, {}, !slot.fresh);
      }
      if (leaf_bias.defined()) {
        const GradientSink::Slot slot = sink.Open(leaf_bias);
        if (slot.buffer.defined()) AddWeightGrads(saved, grads[0], {}, slot.buffer, !slot.fresh);
      }
    };
  }
  return Record(kLabel, {x, weight, bias, history}, y, backward, std::move(weights));
}

}  // namespace trireme
