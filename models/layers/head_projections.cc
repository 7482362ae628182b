#include "models/layers/head_projections.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/module/lora.h"
#include "core/ops/ops.h"
#include "parallel/layers/column_linear.h"
#include "parallel/layers/layer_traffic.h"

namespace trireme {
namespace {

constexpr const char* kOutputPurpose = "attention output";

}  // namespace

Status CheckHeadCut(absl::string_view component, const TensorAxis& axis, int64_t heads,
                    int64_t key_heads) {
  if (heads % key_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(component, ": ", key_heads, " key heads do not divide heads = ", heads));
  }
  if (heads % axis.size != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        component, ": heads = ", heads, " cannot be shared equally over tensor=", axis.size));
  }
  if (key_heads % axis.size != 0 && axis.size % key_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(component, ": of ", key_heads,
                                                   " key heads and tensor=", axis.size,
                                                   " neither divides the other"));
  }
  return absl::OkStatus();
}

StatusOr<int64_t> HeadWidth(absl::string_view component, absl::string_view key, double expand,
                            int64_t width, int64_t heads) {
  const double channels = expand * static_cast<double>(width);
  const auto whole = static_cast<int64_t>(std::llround(channels));
  if (whole < 1 || std::abs(channels - whole) > 1e-6 * channels || whole % heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(component, ": heads = ", heads,
                                                   " do not divide ", key, " = ", expand,
                                                   " times width = ", width));
  }
  return whole / heads;
}

HeadProjections::HeadProjections(const TensorAxis& axis, const Scope& scope, int64_t stream_width)
    : axis_(axis), scope_(scope), stream_width_(stream_width) {}

void HeadProjections::AddHeads(absl::string_view name, int64_t heads, int64_t width, Init init) {
  Parameter* const weight =
      axis_.DeclareHeads(scope_, name, {heads * width, stream_width_}, std::move(init), heads);
  weight->spec.is_product = true;
  weights_.push_back(weight);
}

void HeadProjections::SetOutput(int64_t heads, int64_t width, Init init) {
  Parameter* const out =
      axis_.DeclareColumns(scope_, "wo", {stream_width_, heads * width}, std::move(init), width);
  out->spec.is_product = true;
  out_ = out;
}

std::vector<Tensor> HeadProjections::In(const Tensor& stream, int64_t n) const {
  return ColumnLinear(axis_, stream, n, weights_);
}

Tensor HeadProjections::In(int weight, const Tensor& x) const {
  return LinearOf(x, *weights_[weight]);
}

Tensor HeadProjections::Out(const Tensor& y) const {
  return axis_.ToStream(LinearOf(y, *out_), kOutputPurpose);
}

void HeadProjections::AddTrafficIn(UnitTraffic* traffic) const {
  AddColumnLinear(axis_, stream_width_, traffic);
}

void HeadProjections::AddTrafficOut(UnitTraffic* traffic) const {
  AddToStream(axis_, stream_width_, kOutputPurpose, traffic);
}

double HeadProjections::Flops() const {
  double elements = out_->spec.global.numel();
  for (const Parameter* weight : weights_) elements += weight->spec.global.numel();
  return 2 * elements;
}

LowRankUp::LowRankUp(const TensorAxis& axis, const Scope& scope, absl::string_view name,
                     int64_t rank, int64_t heads, int64_t width, Init init,
                     std::optional<Init> bias)
    : up_(axis.DeclareHeads(scope, absl::StrCat(name, "_up"), {heads * width, rank},
                            std::move(init), heads)) {
  if (!bias.has_value()) return;
  bias_ = axis.DeclareHeads(scope, absl::StrCat(name, "_bias"), {heads * width}, *std::move(bias),
                            heads,
                            /*decay=*/false);
}

Tensor LowRankUp::operator()(const Tensor& x) const {
  return Linear(x, up_->working, bias_ != nullptr ? bias_->working : Tensor());
}

Tensor SplitHeads(const Tensor& x, int64_t width) {
  return Reshape(x, {x.dim(0), x.dim(1) / width, width});
}

Tensor JoinHeads(const Tensor& x) { return Reshape(x, {x.dim(0), x.dim(1) * x.dim(2)}); }

}  // namespace trireme
