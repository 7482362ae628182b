// Each worker has each part with probability d / n. A part that nobody drew goes to the worker of
// its number.
//
// Charles, Papailiopoulos, Ellenberg, "Approximate gradient coding via sparse random graphs"
// (2017).
#include "core/base/rng.h"
#include "parallel/coding/approximate_code.h"

namespace trireme {

StatusOr<std::unique_ptr<GradientCode>> MakeBernoulli(int num_workers, const Params& params) {
  const int64_t replicas = params.Int("replicas");
  RETURN_IF_ERROR(CheckReplicas("bernoulli", num_workers, replicas));
  const RngKey key = MakeRngKey(static_cast<uint64_t>(params.Int("seed")), "bernoulli");
  std::vector<std::vector<PartTerm>> rows(num_workers);
  for (int part = 0; part < num_workers; ++part) {
    bool held = false;
    for (int worker = 0; worker < num_workers; ++worker) {
      const double u = UniformAt(key, static_cast<uint64_t>(part) * num_workers + worker);
      if (u * num_workers >= replicas) continue;
      rows[worker].push_back({part, 1.0});
      held = true;
    }
    if (!held) rows[part].push_back({part, 1.0});
  }
  return MakeApproximateCode(
      "bernoulli", static_cast<int>(params.Int("s")), std::move(rows),
      params.String("decoder") == "optimal" ? Estimate::kOptimal : Estimate::kOneStep);
}

}  // namespace trireme
