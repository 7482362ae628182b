// Real cyclic MDS code: worker w has parts w, ..., w + s (mod n), with the same s + 1 coefficients
// for every worker, those of
//   g(x) = product over j from (n-s+1)/2 to (n+s-1)/2 of (x - e^(2 pi i j / n))
// scaled to a largest one of 1. Real when n - s is odd. For s = 1 they are (1, 1), and any n - 1
// workers decode with weights 0 and 1. With larger s and n, sets of neighbouring stragglers
// amplify rounding errors without bound: such codes are refused.
//
// Raviv, Tandon, Dimakis, Tamo, "Gradient coding from cyclic MDS codes and expander graphs" (2018).
#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "absl/strings/str_cat.h"

#include "parallel/coding/linear_code.h"

namespace trireme {
namespace {

constexpr int kMaxSolvedWorkers = 1024;
// 1e3 times the rounding errors of f32 are 6e-5 of the gradient.
constexpr double kMaxNoise = 1e3;

std::vector<double> GeneratorCoefficients(int n, int s) {
  std::vector<std::complex<double>> g = {1.0};
  for (int j = (n - s + 1) / 2; j <= (n + s - 1) / 2; ++j) {
    const std::complex<double> root = std::polar(1.0, 2 * std::numbers::pi * j / n);
    g.push_back(0);
    for (size_t i = g.size() - 1; i > 0; --i) g[i] = g[i - 1] - root * g[i];
    g[0] *= -root;
  }
  std::vector<double> coefficients;
  double largest = 0;
  for (const std::complex<double>& c : g) {
    coefficients.push_back(c.real());
    largest = std::max(largest, std::abs(c.real()));
  }
  for (double& c : coefficients) c /= largest;
  return coefficients;
}

}  // namespace

StatusOr<std::unique_ptr<GradientCode>> MakeCyclicMds(int num_workers, const Params& params) {
  const int n = num_workers, s = static_cast<int>(params.Int("s"));
  const auto refused = [&](const auto&... why) {
    return absl::InvalidArgumentError(
        absl::StrCat("cyclic_mds: n = ", n, ", s = ", s, ": ", why...));
  };
  if (n > kMaxSolvedWorkers) return refused("at most ", kMaxSolvedWorkers, " workers");
  if (s > 0 && (n - s) % 2 == 0) return refused("not real, for n - s is even");
  const std::vector<double> g = GeneratorCoefficients(n, s);
  Matrix coefficients(n, n);
  for (int worker = 0; worker < n; ++worker) {
    for (int i = 0; i <= s; ++i) coefficients(worker, (worker + i) % n) = g[i];
  }
  CodeMatrix matrix(std::move(coefficients));
  const double noise = matrix.num_tolerated() == s ? matrix.WorstNoise() : INFINITY;
  if (noise > kMaxNoise) {
    return refused("rounding errors are amplified ", noise, " times, at most ", kMaxNoise,
                   " are allowed");
  }
  return std::make_unique<LinearCode>("cyclic_mds", CyclicShape(n, s),
                                      [matrix = std::move(matrix)] { return matrix; });
}

}  // namespace trireme
