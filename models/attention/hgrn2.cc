#include "models/attention/hgrn2.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "models/layers/head_projections.h"
#include "models/layers/norms.h"

namespace trireme {
namespace {

class Hgrn2 : public TokenMixer {
 public:
  Hgrn2(const MixerShape& shape, const HeadSizes& sizes, double lower_bound, const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        lower_bound_(lower_bound),
        projections_(shape.tensor, scope, shape.width),
        norm_(shape.tensor, scope.Child("o_norm"), sizes.heads * sizes.value_width, /*groups=*/1,
              shape.norm_epsilon) {
    const Init init = Init::Normal(shape.init_stddev);
    projections_.AddHeads("wq", sizes.heads, sizes.key_width, init);
    projections_.AddHeads("wf", sizes.heads, sizes.key_width, init);
    projections_.AddHeads("wv", sizes.heads, sizes.value_width, init);
    projections_.SetOutput(sizes.heads, sizes.value_width, Init::Normal(shape.output_stddev));
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    return NumTokens(layout) *
           (projections_.Flops() + RecurrenceFlops(StateRule::kDiagonal, sizes_));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    AddRecurrence(shape().tensor, StateRule::kDiagonal, sizes_, sizes_.key_width, traffic);
    norm_.AddTraffic(traffic);
    projections_.AddTrafficOut(traffic);
  }

 private:
  Tensor Mix(const Tensor& x, const TokenFlow& flow) const override {
    const std::vector<Tensor> qfv = projections_.In(x, flow.num_tokens());
    const Tensor gate = SplitHeads(To(qfv[1], AccumulationType(x.dtype())), sizes_.key_width);
    RecurrenceInputs in;
    in.q = Silu(SplitHeads(qfv[0], sizes_.key_width));
    in.k = To(Mul(Sigmoid(Neg(gate)), 1 - lower_bound_), x.dtype());
    in.v = SplitHeads(qfv[2], sizes_.value_width);
    in.log_decay = LogForget(gate);
    in.scale = 1 / std::sqrt(static_cast<double>(sizes_.key_width));
    return projections_.Out(norm_(JoinHeads(flow.Recur(in))));
  }

  // Without a bound the logarithm of a small sigmoid would be that of zero.
  Tensor LogForget(const Tensor& gate) const {
    if (lower_bound_ == 0) return LogSigmoid(gate);
    return Log(Add(Mul(Sigmoid(gate), 1 - lower_bound_), lower_bound_));
  }

  const HeadSizes sizes_;
  const double lower_bound_;
  HeadProjections projections_;
  const WideRmsNorm norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeHgrn2(const Params& params, const MixerShape& shape,
                                                const Scope& scope) {
  HeadSizes sizes;
  sizes.key_width = sizes.value_width = params.Int("expand_ratio");
  if (shape.width % sizes.key_width != 0) {
    return absl::InvalidArgumentError(absl::StrCat("hgrn2: expand_ratio = ", sizes.key_width,
                                                   " does not divide width = ", shape.width));
  }
  sizes.heads = sizes.key_heads = shape.width / sizes.key_width;
  RETURN_IF_ERROR(CheckHeadCut("hgrn2", shape.tensor, sizes.heads, sizes.heads));
  double bound = params.Float("lower_bound");
  if (bound == -1) bound = static_cast<double>(shape.layer) / shape.num_layers;
  if (bound < 0 || bound >= 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("hgrn2: lower_bound = ", bound, " of forget gates is not in [0, 1)"));
  }
  return std::make_unique<Hgrn2>(shape, sizes, bound, scope);
}

}  // namespace trireme
