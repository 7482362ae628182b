// Each part is at d drawn workers, which send it divided by d (1 - p): what arrives is added. When
// every worker is late with probability p, independently, the sum is the gradient on average, as if
// it came from fewer samples. Decoding takes no time.
//
// Bitar, Wootters, El Rouayheb, "Stochastic gradient coding for straggler mitigation" (2020).
#include "absl/strings/str_cat.h"

#include "parallel/coding/approximate_code.h"

namespace trireme {

StatusOr<std::unique_ptr<GradientCode>> MakeStochastic(int num_workers, const Params& params) {
  const int64_t replicas = params.Int("replicas");
  RETURN_IF_ERROR(CheckReplicas("stochastic", num_workers, replicas));
  const double weight = 1 / (static_cast<double>(replicas) * (1 - params.Float("late")));
  std::vector<std::vector<PartTerm>> rows(num_workers);
  for (int part = 0; part < num_workers; ++part) {
    const std::vector<int> workers =
        DrawnOrder(num_workers, static_cast<uint64_t>(params.Int("seed")),
                   absl::StrCat("stochastic part ", part));
    for (int i = 0; i < replicas; ++i) rows[workers[i]].push_back({part, weight});
  }
  return MakeApproximateCode("stochastic", static_cast<int>(params.Int("s")), std::move(rows),
                             Estimate::kSum);
}

}  // namespace trireme
