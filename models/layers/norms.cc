#include "models/layers/norms.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/ops/ops.h"

namespace trireme {
namespace {

constexpr const char* kSquares = "squares of channels";

Tensor ConstantGain(const Tensor& x, double value) {
  return Tensor::Full(x.device(), {x.dim(-1)}, x.dtype(), value);
}

}  // namespace

// As an RMS norm, whose mean is the sum over d.
Tensor L2Norm(const Tensor& x, double epsilon) {
  const auto d = static_cast<double>(x.dim(-1));
  return RmsNorm(x, ConstantGain(x, 1 / std::sqrt(d)), epsilon / d);
}

HeadRmsNorm::HeadRmsNorm(const TensorAxis& axis, const Scope& scope, int64_t width, double epsilon)
    : gain_(axis.DeclareOnColumns(scope, "gain", {width}, Init::Constant(1))), epsilon_(epsilon) {}

Tensor HeadRmsNorm::operator()(const Tensor& x) const {
  return RmsNorm(x, gain_->working, epsilon_);
}

Status WideRmsNorm::Check(absl::string_view component, const TensorAxis& axis, int64_t groups) {
  if (groups == 1 || groups % axis.size == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(component, ": a norm over ", groups,
                                                 " groups cannot be cut over tensor=", axis.size));
}

WideRmsNorm::WideRmsNorm(const TensorAxis& axis, const Scope& scope, int64_t channels,
                         int64_t groups, double epsilon)
    : axis_(axis),
      channels_(channels),
      groups_(groups),
      epsilon_(epsilon),
      gain_(axis.DeclareRows(scope, "gain", {channels}, Init::Constant(1), /*grain=*/1,
                             /*decay=*/false)) {}

Tensor WideRmsNorm::operator()(const Tensor& x_nc) const {
  const int64_t n = x_nc.dim(0), c = x_nc.dim(1), width = channels_ / groups_;
  if (!spans_ranks()) {
    const Tensor x = Reshape(x_nc, {n, c / width, width});
    return Mul(Reshape(RmsNorm(x, ConstantGain(x, 1), epsilon_), {n, c}), gain_->working);
  }
  const Tensor x = To(x_nc, AccumulationType(x_nc.dtype()));
  const Tensor all =
      PartialToReplicated(Sum(Mul(x, x), 1, /*keep_dim=*/true), axis_.group, kSquares);
  const Tensor squares = ReplicatedToCopied(all, axis_.group, kSquares);
  const Tensor rms = Sqrt(Add(Mul(squares, 1.0 / channels_), epsilon_));
  return Mul(To(Div(x, rms), x_nc.dtype()), gain_->working);
}

void WideRmsNorm::AddTraffic(UnitTraffic* traffic) const {
  if (!spans_ranks()) return;
  for (const bool backward : {false, true}) {
    traffic->rows.push_back(
        {kSquares, RowTransfer::Kind::kAllReduce, backward, 1, /*accumulated=*/true});
  }
}

HeadGroupNorm::HeadGroupNorm(const TensorAxis& axis, const Scope& scope, int64_t heads,
                             int64_t width, double epsilon, double gain)
    : epsilon_(epsilon),
      gain_(axis.DeclareRows(scope, "gain", {heads * width}, Init::Constant(gain), width,
                             /*decay=*/false)),
      bias_(axis.DeclareRows(scope, "bias", {heads * width}, Init::Constant(0), width,
                             /*decay=*/false)) {}

Tensor HeadGroupNorm::operator()(const Tensor& x_nhd) const {
  const Shape heads = {x_nhd.dim(1), x_nhd.dim(2)};
  const Tensor y = LayerNorm(x_nhd, ConstantGain(x_nhd, 1), Tensor(), epsilon_);
  return Add(Mul(y, Reshape(gain_->working, heads)), Reshape(bias_->working, heads));
}

}  // namespace trireme
