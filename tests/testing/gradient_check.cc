#include "tests/testing/gradient_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base/rng.h"

#include "core/autograd/backward.h"

namespace trireme::testing {
namespace {

double WeightedSum(const Tensor& y) {
  const std::vector<double> values = y.ToVector();
  const RngKey key = MakeRngKey(17, "gradient_check weights");
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) sum += values[i] * NormalAt(key, i);
  return sum;
}

// L at inputs[which] + step * direction.
double Shifted(const TestedFn& fn, Inputs inputs, size_t which, const std::vector<double>& direction,
               double step) {
  std::vector<double> values = inputs[which].ToVector();
  for (size_t i = 0; i < values.size(); ++i) values[i] += step * direction[i];
  const Shape shape = inputs[which].shape();
  inputs[which] = Tensor::FromVector(inputs[which].device(), shape, values, DType::kF64);
  const NoGrad no_grad;
  return WeightedSum(fn(inputs));
}

double NumericSlope(const TestedFn& fn, const Inputs& inputs, size_t which,
                    const std::vector<double>& direction) {
  // Richardson's extrapolation of two central differences: the error is of order h^4.
  const double h = 1e-4;
  const auto central = [&](double step) {
    return (Shifted(fn, inputs, which, direction, step) -
            Shifted(fn, inputs, which, direction, -step)) /
           (2 * step);
  };
  return (4 * central(h / 2) - central(h)) / 3;
}

}  // namespace

Tensor RandomTensor(Device& device, const Shape& shape, uint64_t seed, double scale, DType dtype) {
  std::vector<double> values(shape.numel());
  const RngKey key = MakeRngKey(seed, "random tensor");
  for (size_t i = 0; i < values.size(); ++i) values[i] = scale * NormalAt(key, i);
  return Tensor::FromVector(device, shape, values, dtype);
}

void ExpectGradientsMatch(const TestedFn& fn, const Inputs& inputs, double tolerance,
                          int64_t full_limit) {
  Inputs leaves;
  int64_t total = 0;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.Detach());
    if (input.dtype() != DType::kF64) continue;
    leaves.back().set_requires_grad();
    total += input.numel();
  }
  const Tensor y = fn(leaves);
  ASSERT_TRUE(y.requires_grad()) << "the output does not depend on the inputs";
  std::vector<double> weights(y.numel());
  const RngKey key = MakeRngKey(17, "gradient_check weights");
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = NormalAt(key, i);
  // LeafSink lives behind Tensor::Backward; seeding with the weights needs the general form.
  class Sink : public GradientSink {
   public:
    Slot Open(const Tensor& leaf) override {
      Tensor& grad = leaf.impl()->grad;
      const bool fresh = !grad.defined();
      if (fresh) grad = Tensor::Full(leaf.device(), leaf.shape(), DType::kF64, std::nan(""));
      return {grad, fresh};
    }
  } sink;
  Backward({y}, {Tensor::FromVector(y.device(), y.shape(), weights, y.dtype())}, sink);

  for (size_t which = 0; which < inputs.size(); ++which) {
    if (inputs[which].dtype() != DType::kF64) continue;
    ASSERT_TRUE(leaves[which].grad().defined()) << "input " << which << " got no gradient";
    const std::vector<double> grad = leaves[which].grad().ToVector();
    const auto expect_slope = [&](const std::vector<double>& direction, const std::string& what) {
      double analytic = 0, scale = 1;
      for (size_t i = 0; i < grad.size(); ++i) {
        analytic += grad[i] * direction[i];
        scale = std::max(scale, std::abs(grad[i] * direction[i]));
      }
      const double numeric = NumericSlope(fn, inputs, which, direction);
      EXPECT_NEAR(analytic, numeric, tolerance * std::max(scale, std::abs(numeric)))
          << "input " << which << " of shape " << inputs[which].shape() << ", " << what;
    };
    std::vector<double> direction(grad.size());
    const RngKey direction_key = MakeRngKey(which, "gradient_check direction");
    for (size_t i = 0; i < direction.size(); ++i) direction[i] = NormalAt(direction_key, i);
    expect_slope(direction, "random direction");
    if (total > full_limit) continue;
    for (size_t i = 0; i < grad.size(); ++i) {
      std::fill(direction.begin(), direction.end(), 0.0);
      direction[i] = 1;
      expect_slope(direction, "element " + std::to_string(i));
    }
  }
}

}  // namespace trireme::testing
