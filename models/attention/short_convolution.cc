#include "models/attention/short_convolution.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/ops/ops.h"

namespace trireme {

// The standard deviation is that of the uniform start in PyTorch, 1 / sqrt(3 size).
ShortConvolution::ShortConvolution(const TensorAxis& axis, const Scope& scope,
                                   absl::string_view name, int64_t heads, int64_t width,
                                   int64_t size, bool bias) {
  if (size == 0) return;
  const Init init = Init::Normal(1 / std::sqrt(3.0 * static_cast<double>(size)));
  weight_ = axis.DeclareHeads(scope, name, {heads * width, size}, init, heads);
  if (!bias) return;
  bias_ = axis.DeclareHeads(scope, absl::StrCat(name, "_bias"), {heads * width}, Init::Constant(0),
                            heads, /*decay=*/false);
}

Tensor ShortConvolution::operator()(const Tensor& x, const TokenFlow& flow, bool silu) const {
  Tensor y = x;
  if (weight_ != nullptr) {
    y = flow.Convolve(x, weight_->working, bias_ != nullptr ? bias_->working : Tensor());
  }
  return silu ? Silu(y) : y;
}

void ShortConvolution::AddTraffic(UnitTraffic* traffic) const {
  if (weight_ == nullptr || weight_->spec.global[1] == 1) return;
  traffic->halos.push_back({weight_->spec.global[1] - 1, weight_->spec.local.size[0]});
}

}  // namespace trireme
