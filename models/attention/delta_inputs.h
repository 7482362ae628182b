// What the layers of the delta rule have in common (Schlag, Irie, Schmidhuber 2021; Yang et al.
// 2024, DeltaNet):
//
//   q, k = L2Norm(silu(conv(w x))),  v = silu(conv(wv x)),  beta = sigmoid(wb x), or twice that
//   S_t = (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,  o_t = S_t^T q_t / sqrt(K)
//
// Keys of length one and beta in (0, 1) make the transition a contraction; with beta up to 2 it may
// reflect (Grazzi et al. 2024). With longer keys states would grow from token to token.
#pragma once

#include "models/attention/linear_heads.h"
#include "models/attention/short_convolution.h"
#include "models/layers/head_projections.h"

namespace trireme {

constexpr ParamInfo KeyNormParam() {
  return {
      "key_norm",  ParamType::kString, "l2",     "of queries and keys; the delta rule refuses none",
      -kUnbounded, kUnbounded,         "l2|none"};
}
constexpr ParamInfo NegativeEigenvaluesParam() {
  return {"negative_eigenvalues", ParamType::kBool, "false",
          "beta up to 2, so that a token may turn a direction of the state around"};
}
// INVALID_ARGUMENT when keys are not normalized.
Status CheckKeyNorm(absl::string_view component, const Params& params);

// Declares wq, wk, wv, wb as the first of `projections`, and q_conv, k_conv, v_conv.
class DeltaInputs {
 public:
  static constexpr int kNumProjections = 4;

  DeltaInputs(const Params& params, const MixerShape& shape, const HeadSizes& sizes,
              const Scope& scope, HeadProjections* projections);

  // From what `projections` gave: all but the decay.
  RecurrenceInputs operator()(absl::Span<const Tensor> projected, const TokenFlow& flow) const;
  // Of the convolutions and the recurrence, which is kDelta whatever decays.
  void AddTraffic(UnitTraffic* traffic) const;
  double Flops() const { return q_conv_.Flops() + k_conv_.Flops() + v_conv_.Flops(); }

 private:
  const TensorAxis axis_;
  const HeadSizes sizes_;
  const double beta_scale_;
  const ShortConvolution q_conv_, k_conv_, v_conv_;
};

}  // namespace trireme
