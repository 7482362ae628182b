// Breadth-first: Lamy-Poirier, "Breadth-first pipeline parallelism" (2023). Idle (p - 1)(tF + tB) /
// V when there are at least p micro-batches; all are held. A rank is done with one chunk before it
// turns to the next, so that sharded parameters are gathered once a chunk, not once a micro-batch.
#include "parallel/pipeline/schedule.h"

namespace trireme {

StatusOr<Plan> MakeBreadthFirst(int num_ranks, int num_micro_batches, const Params& params) {
  const int num_chunks = static_cast<int>(params.Int("chunks"));
  Plan plan{LoopPlacement(num_ranks, num_micro_batches, num_chunks), {}};
  for (int rank = 0; rank < num_ranks; ++rank) {
    std::vector<Action>& order = plan.orders.emplace_back();
    for (int chunk = 0; chunk < num_chunks; ++chunk) {
      for (int i = 0; i < num_micro_batches; ++i) {
        order.push_back({ActionKind::F, chunk * num_ranks + rank, i});
      }
    }
    for (size_t n = order.size(); n-- > 0;) {
      order.push_back({ActionKind::B, order[n].stage, order[n].micro_batch});
    }
  }
  return plan;
}

}  // namespace trireme
