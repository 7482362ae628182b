// RmsNorm (Zhang and Sennrich 2019) and LayerNorm (Ba, Kiros, Hinton 2016) over the last dimension.
// Both save x and a statistic or two per row. The gradient of a leaf gain or bias goes into the
// sink by a weight closure.
#include "core/ops/norm.h"

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/layout.h"
#include "core/ops/ops.h"
#include "core/ops/reduce.h"

namespace trireme {
namespace {

View ViewOf(const Tensor& x) { return x.defined() ? x.view() : View(); }

// What backward needs of the forward pass. mean is undefined for RMS norms.
struct Saved {
  Tensor x, mean, rstd;
};

// dgain (+)= sum over rows of dy (x - mean) rstd
void AddGainGrad(const Saved& saved, const Tensor& dy, const Tensor& dgain, bool accumulate) {
  Launch(dy.device(), &KernelTable::NormGainGrad,
         NormGainGradArgs{saved.x.view(), dy.view(), ViewOf(saved.mean), saved.rstd.view(),
                          dgain.view(), accumulate});
}

// dbias (+)= sum over rows of dy
void AddBiasGrad(const Tensor& dy, const Tensor& dbias, bool accumulate) {
  const Shape rows = {1, dy.dim(0), dy.dim(1)};
  Launch(dy.device(), &KernelTable::Sum,
         SumArgs{dy.WithShape(rows).view(), dbias.WithShape({1, dy.dim(1)}).view(), 1, accumulate});
}

Tensor Normalize(const char* name, const Tensor& x, const Tensor& gain, const Tensor& bias,
                 bool centered, double epsilon) {
  const Shape c = {x.dim(-1)};
  CHECK(gain.shape() == c && gain.dtype() == x.dtype())
      << "gain " << DTypeName(gain.dtype()) << gain.shape() << " for " << DTypeName(x.dtype())
      << x.shape() << " [" << name << "]";
  CHECK(!bias.defined() || (bias.shape() == c && bias.dtype() == x.dtype()))
      << "bias " << bias.shape() << " for " << x.shape() << " [" << name << "]";
  const DType acc = AccumulationType(x.dtype());
  Saved saved;
  saved.x = AsRows(x);
  const int64_t n = saved.x.dim(0);
  saved.rstd = Tensor::Empty(x.device(), {n}, acc, MemoryKind::kActivations, name);
  if (centered) saved.mean = Tensor::Empty(x.device(), {n}, acc, MemoryKind::kActivations, name);
  const Tensor gain_data = gain.Contiguous();
  const Tensor bias_data = bias.defined() ? bias.Contiguous() : Tensor();
  const Tensor y =
      Tensor::Empty(x.device(), saved.x.shape(), x.dtype(), MemoryKind::kActivations, name);
  Launch(x.device(), &KernelTable::Norm,
         NormArgs{saved.x.view(), gain_data.view(), ViewOf(bias_data), y.view(), ViewOf(saved.mean),
                  saved.rstd.view(), epsilon});

  const bool wants_dx = x.requires_grad();
  const bool wants_dgain = gain.requires_grad() && !gain.is_leaf();
  const bool wants_dbias = bias.requires_grad() && !bias.is_leaf();
  const auto backward = [=, x_shape = x.shape()](absl::Span<const Tensor> grads) -> Grads {
    const Tensor dy = AsRows(grads[0]);
    const auto empty = [&](const Shape& shape, DType dtype) {
      return Tensor::Empty(dy.device(), shape, dtype, MemoryKind::kActivations, name);
    };
    Tensor dx, dgain, dbias;
    if (wants_dx) {
      dx = empty(dy.shape(), dy.dtype());
      Launch(dy.device(), &KernelTable::NormBackward,
             NormBackwardArgs{saved.x.view(), gain_data.view(), dy.view(), ViewOf(saved.mean),
                              saved.rstd.view(), dx.view()});
      dx = dx.WithShape(x_shape);
    }
    if (wants_dgain) {
      dgain = empty(c, acc);
      AddGainGrad(saved, dy, dgain, /*accumulate=*/false);
      dgain = To(dgain, dy.dtype());
    }
    if (wants_dbias) {
      dbias = empty(c, dy.dtype());
      AddBiasGrad(dy, dbias, /*accumulate=*/false);
    }
    return {dx, dgain, dbias};
  };
  WeightFn weights = nullptr;
  const Tensor leaf_gain = gain.is_leaf() ? gain : Tensor();
  const Tensor leaf_bias = bias.is_leaf() ? bias : Tensor();
  if (leaf_gain.defined() || leaf_bias.defined()) {
    weights = [=](absl::Span<const Tensor> grads, GradientSink& sink) {
      const Tensor dy = AsRows(grads[0]);
      if (leaf_gain.defined()) {
        const GradientSink::Slot slot = sink.Open(leaf_gain);
        if (slot.buffer.defined()) AddGainGrad(saved, dy, slot.buffer, !slot.fresh);
      }
      if (leaf_bias.defined()) {
        const GradientSink::Slot slot = sink.Open(leaf_bias);
        if (slot.buffer.defined()) AddBiasGrad(dy, slot.buffer, !slot.fresh);
      }
    };
  }
  return Record(name, {x, gain, bias}, y.WithShape(x.shape()), backward, std::move(weights));
}

}  // namespace

Tensor RmsNorm(const Tensor& x, const Tensor& gain, double epsilon) {
  return Normalize("rms_norm", x, gain, Tensor(), /*centered=*/false, epsilon);
}

Tensor LayerNorm(const Tensor& x, const Tensor& gain, const Tensor& bias, double epsilon) {
  return Normalize("layer_norm", x, gain, bias, /*centered=*/true, epsilon);
}

}  // namespace trireme
