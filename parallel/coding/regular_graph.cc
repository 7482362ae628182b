// Each worker has d parts and each part is at d workers: worker w has parts p(w + o) (mod n) for d
// drawn offsets o and a drawn order p.
//
// Raviv, Tandon, Dimakis, Tamo, "Gradient coding from cyclic MDS codes and expander graphs" (2018).
#include <algorithm>

#include "parallel/coding/approximate_code.h"

namespace trireme {

StatusOr<std::unique_ptr<GradientCode>> MakeRegularGraph(int num_workers, const Params& params) {
  const int64_t replicas = params.Int("replicas");
  RETURN_IF_ERROR(CheckReplicas("regular_graph", num_workers, replicas));
  const uint64_t seed = static_cast<uint64_t>(params.Int("seed"));
  const std::vector<int> order = DrawnOrder(num_workers, seed, "regular_graph parts");
  const std::vector<int> offsets = DrawnOrder(num_workers, seed, "regular_graph offsets");
  std::vector<std::vector<PartTerm>> rows(num_workers);
  for (int worker = 0; worker < num_workers; ++worker) {
    for (int i = 0; i < replicas; ++i) {
      rows[worker].push_back({order[(worker + offsets[i]) % num_workers], 1.0});
    }
    std::sort(rows[worker].begin(), rows[worker].end(),
              [](const PartTerm& a, const PartTerm& b) { return a.part < b.part; });
  }
  return MakeApproximateCode(
      "regular_graph", static_cast<int>(params.Int("s")), std::move(rows),
      params.String("decoder") == "optimal" ? Estimate::kOptimal : Estimate::kOneStep);
}

}  // namespace trireme
