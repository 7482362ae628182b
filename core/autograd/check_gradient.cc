#include "core/autograd/check_gradient.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"

#include "core/autograd/backward.h"
#include "core/base/rng.h"

namespace trireme {
namespace {

std::vector<double> FixedNormals(size_t n, uint64_t seed) {
  std::vector<double> values(n);
  const RngKey key = MakeRngKey(seed, "check_gradient");
  for (size_t i = 0; i < n; ++i) values[i] = NormalAt(key, i);
  return values;
}

std::vector<double> OutputWeights(size_t n) { return FixedNormals(n, 0); }

double Dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// L at inputs[which] + step * direction.
double Shifted(const CheckedFn& fn, std::vector<Tensor> inputs, size_t which,
               const std::vector<double>& direction, double step) {
  std::vector<double> values = inputs[which].ToVector();
  for (size_t i = 0; i < values.size(); ++i) values[i] += step * direction[i];
  const Shape shape = inputs[which].shape();
  inputs[which] = Tensor::FromVector(inputs[which].device(), shape, values, DType::kF64);
  const NoGrad no_grad;
  const std::vector<double> outputs = fn(inputs).ToVector();
  return Dot(outputs, OutputWeights(outputs.size()));
}

double NumericSlope(const CheckedFn& fn, const std::vector<Tensor>& inputs, size_t which,
                    const std::vector<double>& direction) {
  const double h = 1e-4;
  const auto central = [&](double step) {
    return (Shifted(fn, inputs, which, direction, step) -
            Shifted(fn, inputs, which, direction, -step)) /
           (2 * step);
  };
  return (4 * central(h / 2) - central(h)) / 3;
}

// Gradients start as NaN, so that memory which no backward wrote shows.
class NanSink : public GradientSink {
 public:
  Slot Open(const Tensor& leaf) override {
    Tensor& grad = leaf.impl()->grad;
    const bool fresh = !grad.defined();
    if (fresh) grad = Tensor::Full(leaf.device(), leaf.shape(), DType::kF64, std::nan(""));
    return {grad, fresh};
  }
};

}  // namespace

Status CheckGradient(const CheckedFn& fn, const std::vector<Tensor>& inputs, double tolerance,
                     int64_t full_limit) {
  std::vector<Tensor> leaves;
  int64_t total = 0;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.Detach());
    if (input.dtype() != DType::kF64) continue;
    leaves.back().set_requires_grad();
    total += input.numel();
  }
  const Tensor y = fn(leaves);
  if (!y.requires_grad()) return absl::InternalError("the output does not depend on the inputs");
  NanSink sink;
  Backward({y}, {Tensor::FromVector(y.device(), y.shape(), OutputWeights(y.numel()), y.dtype())},
           sink);

  for (size_t which = 0; which < inputs.size(); ++which) {
    if (inputs[which].dtype() != DType::kF64) continue;
    if (!leaves[which].grad().defined()) {
      return absl::InternalError(absl::StrCat("input ", which, " got no gradient"));
    }
    const std::vector<double> grad = leaves[which].grad().ToVector();
    const auto check_slope = [&](const std::vector<double>& direction,
                                 const std::string& what) -> Status {
      const double analytic = Dot(grad, direction);
      const double numeric = NumericSlope(fn, inputs, which, direction);
      double scale = std::max(1.0, std::abs(numeric));
      for (size_t i = 0; i < grad.size(); ++i)
        scale = std::max(scale, std::abs(grad[i] * direction[i]));
      if (std::abs(analytic - numeric) <= tolerance * scale) return absl::OkStatus();
      return absl::InternalError(
          absl::StrCat("input ", which, " of shape ", inputs[which].shape().ToString(), ", ", what,
                       ": backward gives the slope ", analytic, ", differences give ", numeric));
    };
    RETURN_IF_ERROR(check_slope(FixedNormals(grad.size(), 1 + which), "random direction"));
    if (total > full_limit) continue;
    for (size_t i = 0; i < grad.size(); ++i) {
      std::vector<double> direction(grad.size());
      direction[i] = 1;
      RETURN_IF_ERROR(check_slope(direction, absl::StrCat("element ", i)));
    }
  }
  return absl::OkStatus();
}

}  // namespace trireme
