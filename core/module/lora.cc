#include "core/module/lora.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/ops/ops.h"

namespace trireme {
namespace {

// A factor that has dimension `dim` of the weight in common with it, and is cut where the weight is
// cut there. Elsewhere each rank has the whole, and a part of its gradient.
ParamSpec FactorOf(const ParamSpec& weight, absl::string_view name, int64_t rank, int dim,
                   Init init) {
  ParamSpec spec;
  spec.path = absl::StrCat(weight.path, ".", name);
  spec.global = weight.global.WithDim(1 - dim, rank);
  spec.local = WholeBox(spec.global);
  spec.init = init;
  spec.units = weight.units;
  spec.partial_grad = weight.partial_grad;
  if (weight.split.Contains(Axis::kTensor)) {
    if (weight.split_dim == dim) {
      spec.local.begin[dim] = weight.local.begin[dim];
      spec.local.size[dim] = weight.local.size[dim];
      spec.split = weight.split;
      spec.split_dim = dim;
      spec.copies = weight.copies;
    } else {
      spec.partial_grad = Axis::kTensor;
    }
  }
  return spec;
}

}  // namespace

Status AddLora(ParameterSet& parameters, Parameter& weight, int64_t rank, double alpha) {
  const ParamSpec& spec = weight.spec;
  if (!spec.is_product) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora: '", spec.path, "' is not the matrix of a linear layer"));
  }
  const double stddev = 1 / std::sqrt(static_cast<double>(spec.global[1]));
  weight.lora.a = parameters.Declare(FactorOf(spec, "lora_a", rank, 1, Init::Normal(stddev)));
  weight.lora.b = parameters.Declare(FactorOf(spec, "lora_b", rank, 0, Init::Constant(0)));
  weight.lora.scale = alpha / static_cast<double>(rank);
  return absl::OkStatus();
}

Tensor LinearOf(const Tensor& x, const Parameter& weight) {
  const Tensor y = Linear(x, weight.working);
  if (weight.lora.a == nullptr) return y;
  const Tensor low = Linear(x, weight.lora.a->working);
  return Add(y, Mul(Linear(low, weight.lora.b->working), weight.lora.scale));
}

}  // namespace trireme
