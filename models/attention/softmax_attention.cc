// Softmax attention: grouped queries (Ainslie et al. 2023), rotary positions (Su et al. 2021),
// optional norm of queries and keys (Henry et al. 2020). Legend: n tokens, c width, h heads, g
// key-value heads, d head width; h and g are this rank's over the tensor axis.
#include "models/attention/softmax_attention.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/ops/ops.h"
#include "models/layers/head_projections.h"
#include "models/layers/norms.h"

namespace trireme {
namespace {

struct HeadSizes {
  int64_t heads, kv_heads, width;
};

class SoftmaxAttention : public TokenMixer {
 public:
  SoftmaxAttention(const Params& params, const MixerShape& shape, const HeadSizes& sizes,
                   const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        theta_(params.Float("rotary_theta")),
        window_(params.Int("window")),
        projections_(shape.tensor, scope, shape.width) {
    const int64_t d = sizes.width;
    const Init init = Init::Normal(shape.init_stddev);
    projections_.AddHeads("wq", sizes.heads, d, init);
    projections_.AddHeads("wk", sizes.kv_heads, d, init);
    projections_.AddHeads("wv", sizes.kv_heads, d, init);
    projections_.SetOutput(sizes.heads, d, Init::Normal(shape.output_stddev));
    if (params.Bool("qk_norm")) {
      q_norm_.emplace(shape.tensor, scope.Child("q_norm"), d, shape.norm_epsilon);
      k_norm_.emplace(shape.tensor, scope.Child("k_norm"), d, shape.norm_epsilon);
    }
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    const int64_t size = shape().tensor.size, d = sizes_.width;
    traffic->attention.push_back(
        {sizes_.heads / size, std::max<int64_t>(1, sizes_.kv_heads / size), d, d});
    projections_.AddTrafficOut(traffic);
  }

  void AddKernels(std::set<std::string>*) const override {}

  double ForwardFlops(const TokenLayout& layout) const override {
    double pairs = 0, tokens = 0;
    for (const Segment& segment : layout.segments) {
      const double length = segment.length;
      const double span = window_ > 0 ? std::min<double>(window_, length) : length;
      // Half the square, and full rows beyond the window.
      pairs += span * span / 2 + (length - span) * span;
      tokens += length;
    }
    return 4 * pairs * sizes_.heads * sizes_.width + tokens * projections_.Flops();
  }

 private:
  Tensor Mix(const Tensor& x_nc, const TokenFlow& flow) const override {
    const std::vector<Tensor> qkv = projections_.In(x_nc, flow.num_tokens());
    const Tensor q_nhd = Positioned(SplitHeads(qkv[0], sizes_.width), q_norm_, flow);
    const Tensor k_ngd = Positioned(SplitHeads(qkv[1], sizes_.width), k_norm_, flow);
    const Tensor v_ngd = SplitHeads(qkv[2], sizes_.width);
    const double scale = 1 / std::sqrt(static_cast<double>(sizes_.width));
    return projections_.Out(JoinHeads(flow.Attend(q_nhd, k_ngd, v_ngd, window_, scale)));
  }

  Tensor Positioned(Tensor x_nhd, const std::optional<HeadRmsNorm>& norm,
                    const TokenFlow& flow) const {
    if (norm.has_value()) x_nhd = (*norm)(x_nhd);
    return theta_ > 0 ? Rotary(x_nhd, flow.layout().position, theta_) : x_nhd;
  }

  const HeadSizes sizes_;
  const double theta_;
  const int64_t window_;
  HeadProjections projections_;
  std::optional<HeadRmsNorm> q_norm_, k_norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeSoftmaxAttention(const Params& params,
                                                           const MixerShape& shape,
                                                           const Scope& scope) {
  HeadSizes sizes{params.Int("heads"), params.Int("kv_heads"), params.Int("head_width")};
  if (sizes.kv_heads == 0) sizes.kv_heads = sizes.heads;
  if (sizes.heads % sizes.kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("softmax: kv_heads = ", sizes.kv_heads,
                                                   " does not divide heads = ", sizes.heads));
  }
  if (sizes.width == 0) {
    if (shape.width % sizes.heads != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("softmax: heads = ", sizes.heads, " does not divide width = ", shape.width));
    }
    sizes.width = shape.width / sizes.heads;
  }
  RETURN_IF_ERROR(CheckHeadCut("softmax", shape.tensor, sizes.heads, sizes.kv_heads));
  const int64_t tensor = shape.tensor.size;
  RETURN_IF_ERROR(shape.sequence->CheckHeads(sizes.heads / tensor,
                                             std::max<int64_t>(1, sizes.kv_heads / tensor)));
  if (params.Float("rotary_theta") > 0 && sizes.width % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("softmax: rotary positions need an even head_width, not ", sizes.width));
  }
  return std::make_unique<SoftmaxAttention>(params, shape, sizes, scope);
}

}  // namespace trireme
