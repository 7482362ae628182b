// Softmax attention: grouped queries (Ainslie et al. 2023), rotary positions (Su et al. 2021), optional
// norm of queries and keys (Henry et al. 2020).
// Legend: n tokens, c width, h heads, g key-value heads, d head width.
#include "models/attention/softmax_attention.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/ops/ops.h"

namespace trireme {
namespace {

struct HeadSizes {
  int64_t heads, kv_heads, width;
};

class SoftmaxAttention : public TokenMixer {
 public:
  SoftmaxAttention(const Params& params, const MixerShape& shape, const HeadSizes& sizes,
                   const Scope& scope)
      : shape_(shape),
        sizes_(sizes),
        theta_(params.Float("rotary_theta")),
        window_(params.Int("window")) {
    const int64_t c = shape.width, d = sizes.width;
    const Init init = Init::Normal(shape.init_stddev);
    wq_ = scope.Declare("wq", {sizes.heads * d, c}, init);
    wk_ = scope.Declare("wk", {sizes.kv_heads * d, c}, init);
    wv_ = scope.Declare("wv", {sizes.kv_heads * d, c}, init);
    wo_ = scope.Declare("wo", {c, sizes.heads * d}, Init::Normal(shape.output_stddev));
    if (params.Bool("qk_norm")) {
      q_norm_ = scope.Child("q_norm").Declare("gain", {d}, Init::Constant(1), /*decay=*/false);
      k_norm_ = scope.Child("k_norm").Declare("gain", {d}, Init::Constant(1), /*decay=*/false);
    }
  }

  Tensor operator()(const Tensor& x_nc, const ForwardContext& context) const override {
    const Tensor q_nhd = Positioned(Heads(x_nc, wq_, sizes_.heads), q_norm_, context);
    const Tensor k_ngd = Positioned(Heads(x_nc, wk_, sizes_.kv_heads), k_norm_, context);
    const Tensor v_ngd = Heads(x_nc, wv_, sizes_.kv_heads);
    const KeyRanges ranges = CausalKeyRanges(x_nc.device(), context.layout, window_);
    const Tensor y_nhd = Attention(q_nhd, k_ngd, v_ngd, ranges,
                                   1 / std::sqrt(static_cast<double>(sizes_.width)));
    return Linear(Reshape(y_nhd, {x_nc.dim(0), sizes_.heads * sizes_.width}), wo_->working);
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    double pairs = 0, tokens = 0;
    for (const Segment& segment : layout.segments) {
      const double length = segment.length;
      const double span = window_ > 0 ? std::min<double>(window_, length) : length;
      // Half the square, and full rows beyond the window.
      pairs += span * span / 2 + (length - span) * span;
      tokens += length;
    }
    const double d = sizes_.width;
    return 4 * pairs * sizes_.heads * d +
           4 * tokens * shape_.width * d * (sizes_.heads + sizes_.kv_heads);
  }

 private:
  static Tensor Heads(const Tensor& x_nc, const Parameter* weight, int64_t heads) {
    const Tensor y = Linear(x_nc, weight->working);
    return Reshape(y, {x_nc.dim(0), heads, y.dim(1) / heads});
  }

  Tensor Positioned(Tensor x_nhd, const Parameter* norm, const ForwardContext& context) const {
    if (norm != nullptr) x_nhd = RmsNorm(x_nhd, norm->working, shape_.norm_epsilon);
    return theta_ > 0 ? Rotary(x_nhd, context.layout.position, theta_) : x_nhd;
  }

  const MixerShape shape_;
  const HeadSizes sizes_;
  const double theta_;
  const int64_t window_;
  const Parameter *wq_, *wk_, *wv_, *wo_;
  const Parameter *q_norm_ = nullptr, *k_norm_ = nullptr;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeSoftmaxAttention(const Params& params,
                                                           const MixerShape& shape,
                                                           const Scope& scope) {
  HeadSizes sizes{params.Int("heads"), params.Int("kv_heads"), params.Int("head_width")};
  if (sizes.kv_heads == 0) sizes.kv_heads = sizes.heads;
  if (sizes.heads % sizes.kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "softmax: kv_heads = ", sizes.kv_heads, " does not divide heads = ", sizes.heads));
  }
  if (sizes.width == 0) {
    if (shape.width % sizes.heads != 0) {
      return absl::InvalidArgumentError(absl::StrCat("softmax: heads = ", sizes.heads,
                                                     " does not divide width = ", shape.width));
    }
    sizes.width = shape.width / sizes.heads;
  }
  if (params.Float("rotary_theta") > 0 && sizes.width % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("softmax: rotary positions need an even head_width, not ", sizes.width));
  }
  return std::make_unique<SoftmaxAttention>(params, shape, sizes, scope);
}

}  // namespace trireme
