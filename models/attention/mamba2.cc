// Legend: n tokens, h heads and g groups of this rank, p head width.
#include "models/attention/mamba2.h"

#include "absl/strings/str_cat.h"

#include "models/attention/short_convolution.h"
#include "models/layers/decay_gate.h"
#include "models/layers/head_projections.h"
#include "models/layers/norms.h"

namespace trireme {
namespace {

class Mamba2 : public TokenMixer {
 public:
  Mamba2(const Params& params, const MixerShape& shape, const HeadSizes& sizes, const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        projections_(shape.tensor, scope, shape.width),
        x_conv_(shape.tensor, scope, "x_conv", sizes.heads, sizes.value_width,
                params.Int("conv_size"), /*bias=*/true),
        b_conv_(shape.tensor, scope, "b_conv", sizes.key_heads, sizes.key_width,
                params.Int("conv_size"), /*bias=*/true),
        c_conv_(shape.tensor, scope, "c_conv", sizes.key_heads, sizes.key_width,
                params.Int("conv_size"), /*bias=*/true),
        gate_(shape.tensor, scope, sizes.heads, /*width=*/1, /*low=*/1, /*high=*/16),
        d_(shape.tensor.DeclareHeads(scope, "d", {sizes.heads}, Init::Constant(1), sizes.heads,
                                     /*decay=*/false)),
        norm_(shape.tensor, scope.Child("o_norm"), sizes.heads * sizes.value_width, sizes.key_heads,
              shape.norm_epsilon) {
    const Init init = Init::Normal(shape.init_stddev);
    projections_.AddHeads("wz", sizes.heads, sizes.value_width, init);
    projections_.AddHeads("wx", sizes.heads, sizes.value_width, init);
    projections_.AddHeads("wb", sizes.key_heads, sizes.key_width, init);
    projections_.AddHeads("wc", sizes.key_heads, sizes.key_width, init);
    projections_.AddHeads("wdt", sizes.heads, 1, init);
    projections_.SetOutput(sizes.heads, sizes.value_width, Init::Normal(shape.output_stddev));
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    return NumTokens(layout) * (projections_.Flops() + x_conv_.Flops() + b_conv_.Flops() +
                                c_conv_.Flops() + RecurrenceFlops(StateRule::kDiagonal, sizes_));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    for (const ShortConvolution* conv : {&x_conv_, &b_conv_, &c_conv_}) conv->AddTraffic(traffic);
    AddRecurrence(shape().tensor, StateRule::kDiagonal, sizes_, /*decay_width=*/1, traffic);
    norm_.AddTraffic(traffic);
    projections_.AddTrafficOut(traffic);
  }

 private:
  Tensor Mix(const Tensor& u, const TokenFlow& flow) const override {
    const std::vector<Tensor> zxbcd = projections_.In(u, flow.num_tokens());
    const Tensor x_nhp = SplitHeads(x_conv_(zxbcd[1], flow), sizes_.value_width);
    const Tensor steps_nh = gate_.StepSizes(zxbcd[4]);
    RecurrenceInputs in;
    in.k = SplitHeads(b_conv_(zxbcd[2], flow), sizes_.key_width);
    in.q = SplitHeads(c_conv_(zxbcd[3], flow), sizes_.key_width);
    // The step size goes into the values, so that the heads of a group keep sharing their keys.
    in.v = Mul(x_nhp, Column(To(steps_nh, u.dtype())));
    in.log_decay = gate_.LogDecay(steps_nh);
    const Tensor skipped = Mul(x_nhp, Reshape(d_->working, {d_->working.dim(0), 1}));
    const Tensor y = JoinHeads(Add(flow.Recur(in), skipped));
    return projections_.Out(norm_(SwiGlu(zxbcd[0], y)));
  }

  static Tensor Column(const Tensor& x_nh) { return Reshape(x_nh, {x_nh.dim(0), x_nh.dim(1), 1}); }

  const HeadSizes sizes_;
  HeadProjections projections_;
  const ShortConvolution x_conv_, b_conv_, c_conv_;
  const DecayGate gate_;
  const Parameter* d_;
  const WideRmsNorm norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeMamba2(const Params& params, const MixerShape& shape,
                                                 const Scope& scope) {
  HeadSizes sizes;
  ASSIGN_OR_RETURN(const int64_t channels,
                   HeadWidth("mamba2", "expand", params.Float("expand"), shape.width, 1));
  sizes.value_width = params.Int("head_width");
  if (channels % sizes.value_width != 0) {
    return absl::InvalidArgumentError(absl::StrCat("mamba2: head_width = ", sizes.value_width,
                                                   " does not divide ", channels, " channels"));
  }
  sizes.heads = channels / sizes.value_width;
  sizes.key_heads = params.Int("groups");
  sizes.key_width = params.Int("state_width");
  RETURN_IF_ERROR(CheckHeadCut("mamba2", shape.tensor, sizes.heads, sizes.key_heads));
  RETURN_IF_ERROR(WideRmsNorm::Check("mamba2", shape.tensor, sizes.key_heads));
  return std::make_unique<Mamba2>(params, shape, sizes, scope);
}

}  // namespace trireme
