// Legend: n tokens, h heads of this rank, v value width.
#include "models/attention/linear_attention.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "models/layers/feature_map.h"
#include "models/layers/head_projections.h"
#include "models/layers/norms.h"

namespace trireme {
namespace {

class LinearAttention : public TokenMixer {
 public:
  LinearAttention(const Params& params, const MixerShape& shape, const HeadSizes& sizes,
                  const FeatureMapInfo& map, const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        features_(map.features(sizes.key_width)),
        normalize_(params.Bool("normalize")),
        projections_(shape.tensor, scope, shape.width),
        q_map_(map, shape.tensor, scope, "q_map", sizes.heads, sizes.key_width),
        k_map_(map, shape.tensor, scope, "k_map", sizes.heads, sizes.key_width) {
    const Init init = Init::Normal(shape.init_stddev);
    projections_.AddHeads("wq", sizes.heads, sizes.key_width, init);
    projections_.AddHeads("wk", sizes.heads, sizes.key_width, init);
    projections_.AddHeads("wv", sizes.heads, sizes.value_width, init);
    projections_.SetOutput(sizes.heads, sizes.value_width, Init::Normal(shape.output_stddev));
    if (params.Bool("output_norm")) {
      norm_.emplace(shape.tensor, scope.Child("o_norm"), sizes.value_width, shape.norm_epsilon);
    }
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    return NumTokens(layout) * (projections_.Flops() + q_map_.Flops() + k_map_.Flops() +
                                RecurrenceFlops(StateRule::kDiagonal, StateSizes()));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    AddRecurrence(shape().tensor, StateRule::kDiagonal, StateSizes(), /*decay_width=*/0, traffic);
    projections_.AddTrafficOut(traffic);
  }

 private:
  // With the column of the sums.
  HeadSizes StateSizes() const {
    return {sizes_.heads, sizes_.heads, features_, sizes_.value_width + (normalize_ ? 1 : 0)};
  }

  Tensor Mix(const Tensor& x, const TokenFlow& flow) const override {
    const std::vector<Tensor> qkv = projections_.In(x, flow.num_tokens());
    RecurrenceInputs in;
    in.q = q_map_(SplitHeads(qkv[0], sizes_.key_width));
    in.k = k_map_(SplitHeads(qkv[1], sizes_.key_width));
    in.v = SplitHeads(qkv[2], sizes_.value_width);
    in.scale = 1 / std::sqrt(static_cast<double>(features_));
    const Tensor o_nhv = normalize_ ? NormalizedRecurrence(in, flow) : flow.Recur(in);
    return projections_.Out(JoinHeads(norm_.has_value() ? (*norm_)(o_nhv) : o_nhv));
  }

  const HeadSizes sizes_;
  const int64_t features_;
  const bool normalize_;
  HeadProjections projections_;
  const FeatureMap q_map_, k_map_;
  std::optional<HeadRmsNorm> norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeLinearAttention(const Params& params,
                                                          const MixerShape& shape,
                                                          const Scope& scope) {
  ASSIGN_OR_RETURN(const HeadSizes sizes, ExpandedHeads("linear", params, shape));
  ASSIGN_OR_RETURN(const FeatureMapInfo* map, FindFeatureMap(params.String("feature_map")));
  if (params.Bool("normalize") && !map->positive) {
    return absl::InvalidArgumentError(absl::StrCat(
        "linear: normalize needs weights that are not negative, which feature_map = ", map->name,
        " does not give"));
  }
  return std::make_unique<LinearAttention>(params, shape, sizes, *map, scope);
}

}  // namespace trireme
