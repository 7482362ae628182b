// Softmax attention: grouped queries (Ainslie et al. 2023), rotary positions (Su et al. 2021),
// optional norm of queries and keys (Henry et al. 2020). Legend: n tokens, c width, h heads, g
// key-value heads, d head width; h and g are this rank's over the tensor axis.
#include "models/attention/softmax_attention.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/ops/ops.h"
#include "parallel/layers/column_linear.h"
#include "parallel/layers/layer_traffic.h"

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
    const TensorAxis& tensor = shape.tensor;
    const int copies = KvCopies();
    wq_ = tensor.DeclareRows(scope, "wq", {sizes.heads * d, c}, init, d);
    wk_ = tensor.DeclareCopiedRows(scope, "wk", {sizes.kv_heads * d, c}, init, copies);
    wv_ = tensor.DeclareCopiedRows(scope, "wv", {sizes.kv_heads * d, c}, init, copies);
    wo_ = tensor.DeclareColumns(scope, "wo", {c, sizes.heads * d},
                                Init::Normal(shape.output_stddev), d);
    if (params.Bool("qk_norm")) {
      q_norm_ = tensor.DeclareOnColumns(scope.Child("q_norm"), "gain", {d}, Init::Constant(1));
      k_norm_ = tensor.DeclareOnColumns(scope.Child("k_norm"), "gain", {d}, Init::Constant(1));
    }
  }

  Tensor operator()(const Tensor& x_nc, const ForwardContext& context) const override {
    const int64_t n = context.layout.num_tokens();
    const std::vector<Tensor> qkv = ColumnLinear(shape_.tensor, x_nc, n, {wq_, wk_, wv_});
    const Tensor q_nhd = Positioned(Heads(qkv[0]), q_norm_, context);
    const Tensor k_ngd = Positioned(Heads(qkv[1]), k_norm_, context);
    const Tensor y_nhd =
        shape_.sequence->Attend(q_nhd, k_ngd, Heads(qkv[2]), context.layout, window_,
                                1 / std::sqrt(static_cast<double>(sizes_.width)));
    const Tensor y = Linear(Reshape(y_nhd, {n, wo_->spec.local.size[1]}), wo_->working);
    return shape_.tensor.ToStream(y, "attention output");
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    AddColumnLinear(shape_.tensor, shape_.width, traffic);
    const int64_t d = sizes_.width;
    traffic->attention.push_back({wq_->spec.local.size[0] / d, wk_->spec.local.size[0] / d, d, d});
    AddToStream(shape_.tensor, shape_.width, "attention output", traffic);
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
  // How many ranks of the tensor axis have the same key-value heads.
  int KvCopies() const {
    const int size = shape_.tensor.size;
    return size <= sizes_.kv_heads ? 1 : size / static_cast<int>(sizes_.kv_heads);
  }

  Tensor Heads(const Tensor& x) const {
    return Reshape(x, {x.dim(0), x.dim(1) / sizes_.width, sizes_.width});
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
  const int64_t tensor = shape.tensor.size;
  if (sizes.heads % tensor != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "softmax: heads = ", sizes.heads, " cannot be shared equally over tensor=", tensor));
  }
  if (sizes.kv_heads % tensor != 0 && tensor % sizes.kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("softmax: of kv_heads = ", sizes.kv_heads,
                                                   " and tensor=", tensor,
                                                   " neither divides the other"));
  }
  RETURN_IF_ERROR(shape.sequence->CheckHeads(sizes.heads / tensor,
                                             std::max<int64_t>(1, sizes.kv_heads / tensor)));
  if (params.Float("rotary_theta") > 0 && sizes.width % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("softmax: rotary positions need an even head_width, not ", sizes.width));
  }
  return std::make_unique<SoftmaxAttention>(params, shape, sizes, scope);
}

}  // namespace trireme
