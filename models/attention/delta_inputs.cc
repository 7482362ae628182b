#include "models/attention/delta_inputs.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "models/layers/norms.h"

namespace trireme {

Status CheckKeyNorm(absl::string_view component, const Params& params) {
  if (params.String("key_norm") == "l2") return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(component,
                   ": the delta rule needs normalized keys, or its states grow from token "
                   "to token; key_norm = none"));
}

DeltaInputs::DeltaInputs(const Params& params, const MixerShape& shape, const HeadSizes& sizes,
                         const Scope& scope, HeadProjections* projections)
    : axis_(shape.tensor),
      sizes_(sizes),
      beta_scale_(params.Bool("negative_eigenvalues") ? 2 : 1),
      q_conv_(shape.tensor, scope, "q_conv", sizes.key_heads, sizes.key_width,
              params.Int("conv_size")),
      k_conv_(shape.tensor, scope, "k_conv", sizes.key_heads, sizes.key_width,
              params.Int("conv_size")),
      v_conv_(shape.tensor, scope, "v_conv", sizes.heads, sizes.value_width,
              params.Int("conv_size")) {
  const Init init = Init::Normal(shape.init_stddev);
  projections->AddHeads("wq", sizes.key_heads, sizes.key_width, init);
  projections->AddHeads("wk", sizes.key_heads, sizes.key_width, init);
  projections->AddHeads("wv", sizes.heads, sizes.value_width, init);
  projections->AddHeads("wb", sizes.heads, 1, init);
}

RecurrenceInputs DeltaInputs::operator()(absl::Span<const Tensor> projected,
                                         const TokenFlow& flow) const {
  RecurrenceInputs in;
  in.rule = StateRule::kDelta;
  in.q = L2Norm(SplitHeads(q_conv_(projected[0], flow), sizes_.key_width));
  in.k = L2Norm(SplitHeads(k_conv_(projected[1], flow), sizes_.key_width));
  in.v = SplitHeads(v_conv_(projected[2], flow), sizes_.value_width);
  in.beta = Sigmoid(projected[3]);
  if (beta_scale_ != 1) in.beta = Mul(in.beta, beta_scale_);
  in.scale = 1 / std::sqrt(static_cast<double>(sizes_.key_width));
  return in;
}

void DeltaInputs::AddTraffic(UnitTraffic* traffic) const {
  for (const ShortConvolution* conv : {&q_conv_, &k_conv_, &v_conv_}) conv->AddTraffic(traffic);
  AddRecurrence(axis_, StateRule::kDelta, sizes_, /*decay_width=*/0, traffic);
}

}  // namespace trireme
