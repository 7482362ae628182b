// Legend: n tokens, c width, h heads, g key-value heads, d head width; h and g are this rank's.
#include "models/attention/qkv_heads.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/ops/ops.h"

namespace trireme {

StatusOr<QkvSizes> QkvSizesOf(absl::string_view component, const Params& params,
                              const MixerShape& shape) {
  QkvSizes sizes{params.Int("heads"), params.Int("kv_heads"), params.Int("head_width")};
  if (sizes.kv_heads == 0) sizes.kv_heads = sizes.heads;
  if (sizes.heads % sizes.kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(component, ": kv_heads = ", sizes.kv_heads,
                                                   " does not divide heads = ", sizes.heads));
  }
  if (sizes.width == 0) {
    if (shape.width % sizes.heads != 0) {
      return absl::InvalidArgumentError(absl::StrCat(component, ": heads = ", sizes.heads,
                                                     " does not divide width = ", shape.width));
    }
    sizes.width = shape.width / sizes.heads;
  }
  RETURN_IF_ERROR(CheckHeadCut(component, shape.tensor, sizes.heads, sizes.kv_heads));
  const int64_t tensor = shape.tensor.size;
  RETURN_IF_ERROR(shape.sequence->CheckHeads(sizes.heads / tensor,
                                             std::max<int64_t>(1, sizes.kv_heads / tensor)));
  if (params.Float("rotary_theta") > 0 && sizes.width % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(component, ": rotary positions need an even head_width, not ", sizes.width));
  }
  return sizes;
}

QkvHeads::QkvHeads(const Params& params, const MixerShape& shape, const QkvSizes& sizes,
                   const Scope& scope)
    : sizes_(sizes),
      theta_(params.Float("rotary_theta")),
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

QkvHeads::Tensors QkvHeads::In(const Tensor& x_nc, const TokenFlow& flow) const {
  const std::vector<Tensor> qkv = projections_.In(x_nc, flow.num_tokens());
  const Tensor q_nhd = SplitHeads(qkv[0], sizes_.width), k_ngd = SplitHeads(qkv[1], sizes_.width);
  return {q_norm_.has_value() ? (*q_norm_)(q_nhd) : q_nhd,
          k_norm_.has_value() ? (*k_norm_)(k_ngd) : k_ngd, SplitHeads(qkv[2], sizes_.width)};
}

Tensor QkvHeads::WithPosition(const Tensor& x_nhd, const TokenFlow& flow) const {
  return theta_ > 0 ? Rotary(x_nhd, flow.layout().position, theta_) : x_nhd;
}

double QkvHeads::scale() const { return 1 / std::sqrt(static_cast<double>(sizes_.width)); }

}  // namespace trireme
