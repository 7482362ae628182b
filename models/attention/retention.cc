#include "models/attention/retention.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "models/layers/head_projections.h"
#include "models/layers/norms.h"

namespace trireme {
namespace {

class Retention : public TokenMixer {
 public:
  Retention(const Params& params, const MixerShape& shape, const HeadSizes& sizes,
            std::vector<double> log_decay, const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        log_decay_(std::move(log_decay)),
        theta_(params.Float("rotary_theta")),
        projections_(shape.tensor, scope, shape.width),
        norm_(shape.tensor, scope.Child("o_norm"), sizes.value_width, shape.norm_epsilon) {
    const Init init = Init::Normal(shape.init_stddev);
    projections_.AddHeads("wq", sizes.heads, sizes.key_width, init);
    projections_.AddHeads("wk", sizes.heads, sizes.key_width, init);
    projections_.AddHeads("wv", sizes.heads, sizes.value_width, init);
    projections_.AddHeads("wg", sizes.heads, sizes.value_width, init);
    projections_.SetOutput(sizes.heads, sizes.value_width, Init::Normal(shape.output_stddev));
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    return NumTokens(layout) *
           (projections_.Flops() + RecurrenceFlops(StateRule::kDiagonal, sizes_));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    AddRecurrence(shape().tensor, StateRule::kDiagonal, sizes_, /*decay_width=*/0, traffic);
    projections_.AddTrafficOut(traffic);
  }

 private:
  Tensor Mix(const Tensor& x, const TokenFlow& flow) const override {
    const std::vector<Tensor> qkvg = projections_.In(x, flow.num_tokens());
    RecurrenceInputs in;
    in.q = Positioned(SplitHeads(qkvg[0], sizes_.key_width), flow);
    in.k = Positioned(SplitHeads(qkvg[1], sizes_.key_width), flow);
    in.v = SplitHeads(qkvg[2], sizes_.value_width);
    in.log_decay = ConstantDecay(shape().tensor, x, log_decay_);
    in.scale = 1 / std::sqrt(static_cast<double>(sizes_.key_width));
    const Tensor o = JoinHeads(norm_(flow.Recur(in)));
    return projections_.Out(SwiGlu(qkvg[3], o));
  }

  Tensor Positioned(const Tensor& x, const TokenFlow& flow) const {
    return theta_ > 0 ? Rotary(x, flow.layout().position, theta_) : x;
  }

  const HeadSizes sizes_;
  const std::vector<double> log_decay_;
  const double theta_;
  HeadProjections projections_;
  const HeadRmsNorm norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeRetention(const Params& params, const MixerShape& shape,
                                                    const Scope& scope) {
  ASSIGN_OR_RETURN(const HeadSizes sizes, ExpandedHeads("retention", params, shape));
  const double first = params.Float("first_exponent");
  std::vector<double> log_decay;
  for (int64_t i = 0; i < sizes.heads; ++i) {
    log_decay.push_back(std::log1p(-std::exp2(-first - static_cast<double>(i))));
  }
  RETURN_IF_ERROR(CheckDecays("retention", absl::StrCat("first_exponent = ", first), log_decay));
  if (params.Float("rotary_theta") > 0 && sizes.key_width % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "retention: rotary positions need an even head, not of ", sizes.key_width, " channels"));
  }
  return std::make_unique<Retention>(params, shape, sizes, std::move(log_decay), scope);
}

}  // namespace trireme
