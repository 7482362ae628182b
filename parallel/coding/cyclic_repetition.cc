// Cyclic repetition: worker w has parts w, ..., w + s (mod n), with coefficients that lie in the
// null space of a random s x n matrix H whose rows sum to zero. Any n - s rows then span the null
// space, which has the vector of ones. Load (s + 1) / n, the least there is.
//
// The coefficients of some sets of survivors are large: of several seeds the one whose worst set
// amplifies rounding errors least is taken.
//
// Tandon, Lei, Dimakis, Karampatziakis, "Gradient coding" (ICML 2017), algorithm 2.
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"

#include "core/base/rng.h"
#include "parallel/coding/linear_code.h"

namespace trireme {
namespace {

constexpr int kMaxSolvedWorkers = 1024;

Matrix DrawCoefficients(int n, int s, uint64_t seed) {
  const RngKey key = MakeRngKey(seed, "cyclic_repetition");
  Matrix h(s, n);
  for (int i = 0; i < s; ++i) {
    for (int j = 0; j < n - 1; ++j) {
      h(i, j) = NormalAt(key, static_cast<uint64_t>(i) * n + j);
      h(i, n - 1) -= h(i, j);
    }
  }
  Matrix coefficients(n, n);
  for (int worker = 0; worker < n; ++worker) {
    coefficients(worker, worker) = 1;
    if (s == 0) continue;
    Matrix others(s, s);
    std::vector<double> own(s);
    for (int i = 0; i < s; ++i) {
      for (int j = 0; j < s; ++j) others(i, j) = h(i, (worker + 1 + j) % n);
      own[i] = -h(i, worker);
    }
    const std::vector<double> solved = PivotedQr(std::move(others)).Solve(own);
    for (int j = 0; j < s; ++j) coefficients(worker, (worker + 1 + j) % n) = solved[j];
  }
  return coefficients;
}

CodeMatrix BestOf(int n, int s, uint64_t first_seed, int num_seeds) {
  std::optional<CodeMatrix> best;
  double least = INFINITY;
  for (int i = 0; i < num_seeds; ++i) {
    CodeMatrix matrix(DrawCoefficients(n, s, first_seed + i));
    const double noise =
        num_seeds == 1 || matrix.num_tolerated() != s ? INFINITY : matrix.WorstNoise();
    if (!best.has_value() || noise < least) {
      least = noise;
      best.emplace(std::move(matrix));
    }
  }
  return *std::move(best);
}

}  // namespace

StatusOr<std::unique_ptr<GradientCode>> MakeCyclicRepetition(int num_workers,
                                                             const Params& params) {
  if (num_workers > kMaxSolvedWorkers) {
    return absl::InvalidArgumentError(absl::StrCat("cyclic_repetition: n = ", num_workers,
                                                   " workers, at most ", kMaxSolvedWorkers,
                                                   " whose systems are solved"));
  }
  const int s = static_cast<int>(params.Int("s"));
  const uint64_t seed = static_cast<uint64_t>(params.Int("seed"));
  const int num_seeds = s == 0 ? 1 : static_cast<int>(params.Int("seeds"));
  return std::make_unique<LinearCode>("cyclic_repetition", CyclicShape(num_workers, s),
                                      [=] { return BestOf(num_workers, s, seed, num_seeds); });
}

}  // namespace trireme
