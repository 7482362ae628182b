#include "models/layers/feature_map.h"

#include <cmath>

#include "core/base/params.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

int64_t Same(int64_t width) { return width; }
int64_t Twice(int64_t width) { return 2 * width; }

Tensor Identity(const Tensor& x) { return x; }

// x + 1 above zero, e^x below.
Tensor EluPlusOne(const Tensor& x) { return Add(Relu(x), Exp(Neg(Relu(Neg(x))))); }

constexpr int64_t kDpfpShifts = 4;

int64_t DpfpFeatures(int64_t width) { return 2 * kDpfpShifts * width; }

Tensor Dpfp(const Tensor& x) {
  const Tensor r = Relu(Concat({x, Neg(x)}, -1));
  const int64_t d = r.dim(-1);
  std::vector<Tensor> products;
  for (int64_t j = 1; j <= kDpfpShifts; ++j) {
    const int64_t shift = j % d;
    products.push_back(
        Mul(r, Concat({Slice(r, -1, d - shift, shift), Slice(r, -1, 0, d - shift)}, -1)));
  }
  return Concat(products, -1);
}

int64_t TaylorFeatures(int64_t width) { return 1 + width + width * (width + 1) / 2; }

Tensor Taylor(const Tensor& x) {
  const int64_t d = x.dim(-1);
  const double root = std::sqrt(static_cast<double>(d));
  Shape one = x.shape();
  one[one.rank() - 1] = 1;
  std::vector<Tensor> terms = {Tensor::Full(x.device(), one, x.dtype(), 1),
                               Mul(x, 1 / std::sqrt(root))};
  for (int64_t j = 0; j < d; ++j) {
    const Tensor pairs = Mul(Slice(x, -1, 0, d - j), Slice(x, -1, j, d - j));
    terms.push_back(Mul(pairs, (j == 0 ? std::sqrt(0.5) : 1) / root));
  }
  return Concat(terms, -1);
}

Tensor Hedgehog(const Tensor& x) { return Concat({Softmax(x), Softmax(Neg(x))}, -1); }

constexpr FeatureMapInfo kFeatureMaps[] = {
    {"elu_1", Same, /*positive=*/true, /*learned=*/false, EluPlusOne},
    {"relu", Same, true, false, Relu},
    {"identity", Same, false, false, Identity},
    {"dpfp", DpfpFeatures, true, false, Dpfp},
    // 1 + s + s^2 / 2 is at least 1/2.
    {"taylor", TaylorFeatures, true, false, Taylor},
    {"hedgehog", Twice, true, true, Hedgehog},
};

}  // namespace

absl::Span<const FeatureMapInfo> FeatureMaps() { return kFeatureMaps; }

StatusOr<const FeatureMapInfo*> FindFeatureMap(absl::string_view name) {
  std::vector<std::string> known;
  for (const FeatureMapInfo& info : kFeatureMaps) {
    if (name == info.name) return &info;
    known.push_back(info.name);
  }
  return absl::InvalidArgumentError(UnknownNameMessage("feature map", name, known));
}

FeatureMap::FeatureMap(const FeatureMapInfo& info, const TensorAxis& axis, const Scope& scope,
                       absl::string_view name, int64_t heads, int64_t width)
    : info_(info) {
  if (!info.learned) return;
  const Init identity = Init::Function([width](RngKey, int64_t i) {
    const int64_t row = i / width % width, column = i % width;
    return row == column ? 1.0 : 0.0;
  });
  weight_ = axis.DeclareHeads(scope, name, {heads * width, width}, identity, heads);
}

Tensor FeatureMap::operator()(const Tensor& x_nhd) const {
  if (weight_ == nullptr) return info_.apply(x_nhd);
  const Tensor weight_hdd = Reshape(weight_->working, {x_nhd.dim(1), x_nhd.dim(2), x_nhd.dim(2)});
  const Tensor y_hnd = MatMul(Transpose(x_nhd, 0, 1), weight_hdd, false, /*transpose_b=*/true);
  return info_.apply(Transpose(y_hnd, 0, 1));
}

double FeatureMap::Flops() const {
  return weight_ == nullptr ? 0 : 2.0 * weight_->spec.global.numel();
}

}  // namespace trireme
