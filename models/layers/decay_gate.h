// The decay of Mamba (Gu and Dao 2023) and of what took it over:
//
//   g = -e^a_log softplus(x + dt_bias), a log decay
#pragma once

#include "parallel/layers/tensor_axis.h"

namespace trireme {

// Log-uniform in [low, high], through the inverse of softplus: step sizes as they start.
Init InitStepSizes(double low, double high);
// log of uniform in [low, high].
Init InitLogUniform(double low, double high);

// Parameters "a_log" [heads] and "dt_bias" [heads * width], without weight decay.
class DecayGate {
 public:
  // width 1: a decay for each head; more: for each channel of it. a_log starts as the log of
  // uniform in [low, high], step sizes log-uniform in [0.001, 0.1].
  DecayGate(const TensorAxis& axis, const Scope& scope, int64_t heads, int64_t width, double low,
            double high);

  // softplus(x + dt_bias), of x [n, heads * width of this rank]; [n, h] or [n, h, width] in the
  // accumulation type.
  Tensor StepSizes(const Tensor& x) const;
  Tensor LogDecay(const Tensor& step_sizes) const;
  // Instead, in [bound, 0]: g = bound sigmoid(e^a_log (x + dt_bias)), of Kimi Linear (2025).
  Tensor BoundedLogDecay(const Tensor& x, double bound) const;

 private:
  Tensor Shifted(const Tensor& x) const;
  // e^a_log, broadcast over the channels of a head.
  Tensor Rates() const;

  const int64_t width_;
  const Parameter *a_log_, *dt_bias_;
};

}  // namespace trireme
