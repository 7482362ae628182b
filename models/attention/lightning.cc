#include "models/attention/lightning.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "models/layers/head_projections.h"
#include "models/layers/norms.h"

namespace trireme {
namespace {

class Lightning : public TokenMixer {
 public:
  Lightning(const MixerShape& shape, const HeadSizes& sizes, std::vector<double> log_decay,
            const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        log_decay_(std::move(log_decay)),
        projections_(shape.tensor, scope, shape.width),
        norm_(shape.tensor, scope.Child("o_norm"), sizes.heads * sizes.value_width, /*groups=*/1,
              shape.norm_epsilon) {
    for (const char* name : {"wq", "wk", "wv", "wg"}) {
      projections_.AddHeads(name, sizes.heads, sizes.key_width, Init::Normal(shape.init_stddev));
    }
    projections_.SetOutput(sizes.heads, sizes.value_width, Init::Normal(shape.output_stddev));
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    return NumTokens(layout) *
           (projections_.Flops() + RecurrenceFlops(StateRule::kDiagonal, sizes_));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    AddRecurrence(shape().tensor, StateRule::kDiagonal, sizes_, /*decay_width=*/0, traffic);
    norm_.AddTraffic(traffic);
    projections_.AddTrafficOut(traffic);
  }

 private:
  Tensor Mix(const Tensor& x, const TokenFlow& flow) const override {
    const std::vector<Tensor> qkvg = projections_.In(x, flow.num_tokens());
    RecurrenceInputs in;
    in.q = Silu(SplitHeads(qkvg[0], sizes_.key_width));
    in.k = Silu(SplitHeads(qkvg[1], sizes_.key_width));
    in.v = Silu(SplitHeads(qkvg[2], sizes_.value_width));
    in.log_decay = ConstantDecay(shape().tensor, x, log_decay_);
    const Tensor o = norm_(JoinHeads(flow.Recur(in)));
    return projections_.Out(Mul(Sigmoid(qkvg[3]), o));
  }

  const HeadSizes sizes_;
  const std::vector<double> log_decay_;
  HeadProjections projections_;
  const WideRmsNorm norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeLightning(const Params& params, const MixerShape& shape,
                                                    const Scope& scope) {
  HeadSizes sizes;
  sizes.heads = sizes.key_heads = params.Int("heads");
  sizes.key_width = params.Int("head_width");
  if (sizes.key_width == 0) {
    ASSIGN_OR_RETURN(sizes.key_width, HeadWidth("lightning", "width", 1, shape.width, sizes.heads));
  }
  sizes.value_width = sizes.key_width;
  RETURN_IF_ERROR(CheckHeadCut("lightning", shape.tensor, sizes.heads, sizes.heads));
  const double depth = shape.layer / (shape.num_layers - 1 + 1e-5);
  const double scale =
      params.Float("slope_scale") * (params.String("slopes") == "minimax" ? 1 - depth + 1e-5 : 1);
  std::vector<double> log_decay;
  for (int64_t i = 0; i < sizes.heads; ++i) {
    log_decay.push_back(
        -scale * std::exp2(-8.0 * static_cast<double>(i + 1) / static_cast<double>(sizes.heads)));
  }
  RETURN_IF_ERROR(CheckDecays(
      "lightning", absl::StrCat("slope_scale = ", params.Float("slope_scale")), log_decay));
  return std::make_unique<Lightning>(shape, sizes, std::move(log_decay), scope);
}

}  // namespace trireme
