#include "models/attention/gated_deltanet.h"

#include "models/layers/decay_gate.h"
#include "models/layers/norms.h"

namespace trireme {
namespace {

class GatedDeltaNet : public TokenMixer {
 public:
  GatedDeltaNet(const Params& params, const MixerShape& shape, const HeadSizes& sizes,
                const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        projections_(shape.tensor, scope, shape.width),
        delta_(params, shape, sizes, scope, &projections_),
        gate_(shape.tensor, scope, sizes.heads, /*width=*/1, /*low=*/0, /*high=*/16),
        norm_(shape.tensor, scope.Child("o_norm"), sizes.value_width, shape.norm_epsilon) {
    const Init init = Init::Normal(shape.init_stddev);
    projections_.AddHeads("wa", sizes.heads, 1, init);
    projections_.AddHeads("wg", sizes.heads, sizes.value_width, init);
    projections_.SetOutput(sizes.heads, sizes.value_width, Init::Normal(shape.output_stddev));
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    return NumTokens(layout) *
           (projections_.Flops() + delta_.Flops() + RecurrenceFlops(StateRule::kDelta, sizes_));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    delta_.AddTraffic(traffic);
    projections_.AddTrafficOut(traffic);
  }

 private:
  Tensor Mix(const Tensor& x, const TokenFlow& flow) const override {
    const std::vector<Tensor> projected = projections_.In(x, flow.num_tokens());
    const Tensor &a = projected[delta_.kNumProjections], &g = projected[delta_.kNumProjections + 1];
    RecurrenceInputs in = delta_(projected, flow);
    in.log_decay = gate_.LogDecay(gate_.StepSizes(a));
    return projections_.Out(SwiGlu(g, JoinHeads(norm_(flow.Recur(in)))));
  }

  const HeadSizes sizes_;
  HeadProjections projections_;
  const DeltaInputs delta_;
  const DecayGate gate_;
  const HeadRmsNorm norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeGatedDeltaNet(const Params& params,
                                                        const MixerShape& shape,
                                                        const Scope& scope) {
  RETURN_IF_ERROR(CheckKeyNorm("gated_deltanet", params));
  ASSIGN_OR_RETURN(const HeadSizes sizes, GroupedHeads("gated_deltanet", params, shape));
  return std::make_unique<GatedDeltaNet>(params, shape, sizes, scope);
}

}  // namespace trireme
