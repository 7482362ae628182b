#include "models/attention/deltanet.h"

#include "models/layers/norms.h"

namespace trireme {
namespace {

class DeltaNet : public TokenMixer {
 public:
  DeltaNet(const Params& params, const MixerShape& shape, const HeadSizes& sizes,
           const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        projections_(shape.tensor, scope, shape.width),
        delta_(params, shape, sizes, scope, &projections_),
        norm_(shape.tensor, scope.Child("o_norm"), sizes.value_width, shape.norm_epsilon) {
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
    const RecurrenceInputs in = delta_(projections_.In(x, flow.num_tokens()), flow);
    return projections_.Out(JoinHeads(norm_(flow.Recur(in))));
  }

  const HeadSizes sizes_;
  HeadProjections projections_;
  const DeltaInputs delta_;
  const HeadRmsNorm norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeDeltaNet(const Params& params, const MixerShape& shape,
                                                   const Scope& scope) {
  RETURN_IF_ERROR(CheckKeyNorm("deltanet", params));
  ASSIGN_OR_RETURN(const HeadSizes sizes, ExpandedHeads("deltanet", params, shape));
  return std::make_unique<DeltaNet>(params, shape, sizes, scope);
}

}  // namespace trireme
