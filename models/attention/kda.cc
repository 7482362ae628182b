#include "models/attention/kda.h"

#include "models/layers/decay_gate.h"
#include "models/layers/norms.h"

namespace trireme {
namespace {

class Kda : public TokenMixer {
 public:
  Kda(const Params& params, const MixerShape& shape, const HeadSizes& sizes, const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        lower_bound_(params.Float("lower_bound")),
        projections_(shape.tensor, scope, shape.width),
        delta_(params, shape, sizes, scope, &projections_),
        f_(shape.tensor, scope, "f", sizes.value_width, sizes.heads, sizes.key_width,
           Init::Normal(shape.init_stddev), std::nullopt),
        gate_(shape.tensor, scope, sizes.heads, sizes.key_width, /*low=*/1, /*high=*/16),
        g_(shape.tensor, scope, "g", sizes.value_width, sizes.heads, sizes.value_width,
           Init::Normal(shape.init_stddev), Init::Constant(0)),
        norm_(shape.tensor, scope.Child("o_norm"), sizes.value_width, shape.norm_epsilon) {
    const Init init = Init::Normal(shape.init_stddev);
    projections_.AddHeads("f_down", 1, sizes.value_width, init);
    projections_.AddHeads("g_down", 1, sizes.value_width, init);
    projections_.SetOutput(sizes.heads, sizes.value_width, Init::Normal(shape.output_stddev));
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    return NumTokens(layout) * (projections_.Flops() + delta_.Flops() + f_.Flops() + g_.Flops() +
                                RecurrenceFlops(StateRule::kDelta, sizes_));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    delta_.AddTraffic(traffic);
    projections_.AddTrafficOut(traffic);
  }

 private:
  Tensor Mix(const Tensor& x, const TokenFlow& flow) const override {
    const std::vector<Tensor> projected = projections_.In(x, flow.num_tokens());
    const Tensor f = f_(projected[delta_.kNumProjections]);
    const Tensor g = g_(projected[delta_.kNumProjections + 1]);
    RecurrenceInputs in = delta_(projected, flow);
    in.log_decay = lower_bound_ < 0 ? gate_.BoundedLogDecay(f, lower_bound_)
                                    : gate_.LogDecay(gate_.StepSizes(f));
    return projections_.Out(Mul(Sigmoid(g), JoinHeads(norm_(flow.Recur(in)))));
  }

  const HeadSizes sizes_;
  const double lower_bound_;
  HeadProjections projections_;
  const DeltaInputs delta_;
  const LowRankUp f_;
  const DecayGate gate_;
  const LowRankUp g_;
  const HeadRmsNorm norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeKda(const Params& params, const MixerShape& shape,
                                              const Scope& scope) {
  RETURN_IF_ERROR(CheckKeyNorm("kda", params));
  ASSIGN_OR_RETURN(const HeadSizes sizes, GroupedHeads("kda", params, shape));
  return std::make_unique<Kda>(params, shape, sizes, scope);
}

}  // namespace trireme
