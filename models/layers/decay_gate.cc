#include "models/layers/decay_gate.h"

#include <cmath>

#include "core/base/rng.h"
#include "core/ops/ops.h"

namespace trireme {

Init InitStepSizes(double low, double high) {
  return Init::Function([=](RngKey key, int64_t i) {
    const double step = low * std::pow(high / low, UniformAt(key, i));
    return step + std::log(-std::expm1(-step));
  });
}

Init InitLogUniform(double low, double high) {
  return Init::Function(
      [=](RngKey key, int64_t i) { return std::log(low + (high - low) * UniformAt(key, i)); });
}

DecayGate::DecayGate(const TensorAxis& axis, const Scope& scope, int64_t heads, int64_t width,
                     double low, double high)
    : width_(width),
      a_log_(axis.DeclareHeads(scope, "a_log", {heads}, InitLogUniform(low, high), heads,
                               /*decay=*/false)),
      dt_bias_(axis.DeclareHeads(scope, "dt_bias", {heads * width}, InitStepSizes(0.001, 0.1),
                                 heads,
                                 /*decay=*/false)) {}

Tensor DecayGate::StepSizes(const Tensor& x) const { return Softplus(Shifted(x)); }

Tensor DecayGate::LogDecay(const Tensor& step_sizes) const { return Neg(Mul(step_sizes, Rates())); }

Tensor DecayGate::BoundedLogDecay(const Tensor& x, double bound) const {
  return Mul(Sigmoid(Mul(Shifted(x), Rates())), bound);
}

Tensor DecayGate::Shifted(const Tensor& x) const {
  const DType acc = AccumulationType(x.dtype());
  const Tensor y = Add(To(x, acc), To(dt_bias_->working, acc));
  return width_ == 1 ? y : Reshape(y, {y.dim(0), y.dim(1) / width_, width_});
}

Tensor DecayGate::Rates() const {
  const Tensor rates = Exp(To(a_log_->working, AccumulationType(a_log_->working.dtype())));
  return width_ == 1 ? rates : Reshape(rates, {rates.dim(0), 1});
}

}  // namespace trireme
