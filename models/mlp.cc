// Legend: n samples, c channels. Weights start at normal(0, sqrt(2 / inputs)): He et al. 2015.
#include "models/mlp.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "core/module/scope.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

Tensor Activate(const std::string& name, const Tensor& x) {
  if (name == "gelu") return Gelu(x);
  if (name == "silu") return Silu(x);
  if (name == "tanh") return Tanh(x);
  return Relu(x);
}

class Mlp : public Model {
 public:
  Mlp(const Params& params, const std::vector<int64_t>& widths)
      : activation_(params.String("activation")), dropout_(params.Float("dropout")) {
    for (size_t i = 0; i + 1 < widths.size(); ++i) {
      const Scope scope = Scope(parameters()).InUnit(i).Child("layers").Child(absl::StrCat(i));
      const Init init = Init::Normal(std::sqrt(2.0 / widths[i]));
      layers_.push_back({scope.path(), scope.Declare("weight", {widths[i + 1], widths[i]}, init),
                         scope.Declare("bias", {widths[i + 1]}, Init::Constant(0), false)});
    }
  }

  int num_units() const override { return static_cast<int>(layers_.size()); }

  std::string UnitName(int unit) const override { return layers_[unit].path; }

  Tensor RunUnit(int unit, const Tensor& hidden, const Batch& batch,
                 const ForwardContext& context) override {
    const Tensor y_nc = RunLayer(unit, unit == 0 ? Flat(batch) : hidden, context);
    return unit + 1 == num_units() ? CrossEntropy(y_nc, batch.labels) : y_nc;
  }

  Tensor Logits(const Tensor& hidden, const Batch& batch, const ForwardContext& context) override {
    return RunLayer(num_units() - 1, num_units() == 1 ? Flat(batch) : hidden, context);
  }

  Shape HiddenShape(int unit, int64_t n) const override {
    return {n, layers_[unit].weight->spec.global[1]};
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    double flops = 0;
    for (const LinearLayer& layer : layers_) flops += 2.0 * layer.weight->spec.global.numel();
    return flops * layout.segments.size();
  }

 private:
  struct LinearLayer {
    std::string path;
    const Parameter *weight, *bias;
  };

  Tensor Flat(const Batch& batch) const {
    const int64_t n = batch.inputs.dim(0);
    return To(Reshape(batch.inputs, {n, layers_[0].weight->spec.global[1]}),
              layers_[0].weight->working.dtype());
  }

  Tensor RunLayer(int i, const Tensor& x_nc, const ForwardContext& context) const {
    const LinearLayer& layer = layers_[i];
    const Tensor y_nc = Linear(x_nc, layer.weight->working, layer.bias->working);
    if (i + 1 == num_units()) return y_nc;
    const Tensor z_nc = Activate(activation_, y_nc);
    if (!context.training || dropout_ == 0) return z_nc;
    return Dropout(z_nc, dropout_,
                   MakeRngKey(context.seed, absl::StrCat(layer.path, ".dropout"), context.step),
                   context.layout);
  }

  const std::string activation_;
  const double dropout_;
  std::vector<LinearLayer> layers_;
};

}  // namespace

StatusOr<std::unique_ptr<Model>> MakeMlp(const Params& params, const ComponentConfig& config,
                                         const DataShape& data, const ModelLayout& layout) {
  if (layout.tensor.size > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("mlp: cannot be cut over tensor=", layout.tensor.size));
  }
  if (!config.parts.empty()) return absl::InvalidArgumentError("mlp: has no parts");
  if (data.num_features == 0 || data.num_classes == 0) {
    return absl::InvalidArgumentError("mlp: needs data made of features and classes");
  }
  std::vector<int64_t> widths = {data.num_features};
  for (const absl::string_view piece :
       absl::StrSplit(params.String("hidden"), ',', absl::SkipEmpty())) {
    int64_t width;
    if (!ParseInt(piece, &width) || width < 1) {
      return absl::InvalidArgumentError(absl::StrCat("mlp: hidden has no width '", piece, "'"));
    }
    widths.push_back(width);
  }
  widths.push_back(data.num_classes);
  return std::make_unique<Mlp>(params, widths);
}

}  // namespace trireme
