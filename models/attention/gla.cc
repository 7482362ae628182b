#include "models/attention/gla.h"

#include <cmath>

#include "models/layers/head_projections.h"
#include "models/layers/norms.h"

namespace trireme {
namespace {

class Gla : public TokenMixer {
 public:
  Gla(const Params& params, const MixerShape& shape, const HeadSizes& sizes, const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        gate_divisor_(params.Float("gate_divisor")),
        projections_(shape.tensor, scope, shape.width),
        gate_(shape.tensor, scope, "gate", params.Int("gate_rank"), sizes.heads, sizes.key_width,
              Init::Normal(shape.init_stddev), Init::Constant(0)),
        norm_(shape.tensor, scope.Child("o_norm"), sizes.value_width, shape.norm_epsilon) {
    const Init init = Init::Normal(shape.init_stddev);
    projections_.AddHeads("wq", sizes.heads, sizes.key_width, init);
    projections_.AddHeads("wk", sizes.heads, sizes.key_width, init);
    projections_.AddHeads("wv", sizes.heads, sizes.value_width, init);
    projections_.AddHeads("wg", sizes.heads, sizes.value_width, init);
    projections_.AddHeads("gate_down", 1, params.Int("gate_rank"), init);
    projections_.SetOutput(sizes.heads, sizes.value_width, Init::Normal(shape.output_stddev));
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    return NumTokens(layout) *
           (projections_.Flops() + gate_.Flops() + RecurrenceFlops(StateRule::kDiagonal, sizes_));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    AddRecurrence(shape().tensor, StateRule::kDiagonal, sizes_, sizes_.key_width, traffic);
    projections_.AddTrafficOut(traffic);
  }

 private:
  Tensor Mix(const Tensor& x, const TokenFlow& flow) const override {
    const std::vector<Tensor> in_nc = projections_.In(x, flow.num_tokens());
    RecurrenceInputs in;
    in.q = SplitHeads(in_nc[0], sizes_.key_width);
    in.k = SplitHeads(in_nc[1], sizes_.key_width);
    in.v = SplitHeads(in_nc[2], sizes_.value_width);
    const Tensor gate = To(gate_(in_nc[4]), AccumulationType(x.dtype()));
    in.log_decay = SplitHeads(Mul(LogSigmoid(gate), 1 / gate_divisor_), sizes_.key_width);
    in.scale = 1 / std::sqrt(static_cast<double>(sizes_.key_width));
    return projections_.Out(SwiGlu(in_nc[3], JoinHeads(norm_(flow.Recur(in)))));
  }

  const HeadSizes sizes_;
  const double gate_divisor_;
  HeadProjections projections_;
  const LowRankUp gate_;
  const HeadRmsNorm norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeGla(const Params& params, const MixerShape& shape,
                                              const Scope& scope) {
  ASSIGN_OR_RETURN(const HeadSizes sizes, ExpandedHeads("gla", params, shape));
  return std::make_unique<Gla>(params, shape, sizes, scope);
}

}  // namespace trireme
