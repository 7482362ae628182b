#include "parallel/sync/ef21.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "parallel/sync/block_codec.h"

namespace trireme {
namespace {

double SquaredDistance(const View& a, const View& b) {
  CHECK(a.dtype == b.dtype && a.numel() == b.numel() && b.contiguous());
  double sum = 0;
  DispatchValues(a, [&]<typename T>(T) {
    const T *x = a.as<T>(), *y = b.as<T>();
    for (int64_t i = 0; i < a.numel(); ++i) {
      const double d = static_cast<double>(x[i]) - static_cast<double>(y[i]);
      sum += d * d;
    }
  });
  return sum;
}

}  // namespace

StatusOr<Ef21Steps> Ef21StepSizes(absl::Span<const double> smoothness, double smoothness_of_mean,
                                  double contraction) {
  if (!(contraction > 0 && contraction <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("EF21 needs a codec that contracts: alpha in (0, 1], not ", contraction));
  }
  Ef21Steps steps;
  double sum = 0, squares = 0;
  for (const double constant : smoothness) {
    if (!(constant >= 0) || !std::isfinite(constant)) {
      return absl::InvalidArgumentError(absl::StrCat(constant, " is no smoothness constant"));
    }
    sum += constant;
    squares += constant * constant;
  }
  if (sum == 0) return absl::InvalidArgumentError("no smoothness constant over 0");
  const double count = static_cast<double>(smoothness.size());
  steps.arithmetic_mean = sum / count;
  steps.quadratic_mean = std::sqrt(squares / count);
  const double of_mean = smoothness_of_mean == 0 ? steps.arithmetic_mean : smoothness_of_mean;
  // What was estimated may be over it by rounding.
  if (!(of_mean > 0 && of_mean <= steps.arithmetic_mean * (1 + 1e-9))) {
    return absl::InvalidArgumentError(absl::StrCat("the smoothness of a mean, ", of_mean,
                                                   ", is over 0 and at most the mean, ",
                                                   steps.arithmetic_mean));
  }
  steps.xi = (1 + std::sqrt(1 - contraction)) / contraction - 1;
  steps.ef21 = 1 / (of_mean + steps.quadratic_mean * steps.xi);
  steps.ef21_w = 1 / (of_mean + steps.arithmetic_mean * steps.xi);
  for (const double constant : smoothness) steps.weights.push_back(constant / sum);
  return steps;
}

double Secant::smoothness() const { return points == 0 ? 0 : std::sqrt(gradients / points); }

Secant SecantOf(const View& x, const View& other_x, const View& g, const View& other_g) {
  CHECK_EQ(x.numel(), g.numel());
  return {SquaredDistance(x, other_x), SquaredDistance(g, other_g)};
}

}  // namespace trireme
