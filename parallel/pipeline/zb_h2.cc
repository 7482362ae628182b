// ZB-H2: Qi et al., "Zero bubble pipeline parallelism" (2023), section 2.1. As many forwards ahead
// as fill the time until the first gradient is back: with at least 2p - 1 micro-batches, rank 0
// idles (p - 1)(tF + tI - 2 tW) between its first action and its last, which is nothing when the
// three are equal. Each rank holds 2p - 1 micro-batches.
#include "parallel/pipeline/order_writer.h"

namespace trireme {

StatusOr<Plan> MakeZeroBubbleH2(int num_ranks, int num_micro_batches, const Params&) {
  Plan plan{LoopPlacement(num_ranks, num_micro_batches, 1), {}};
  for (int rank = 0; rank < num_ranks; ++rank) {
    OrderWriter order(plan);
    const int warm_up = 2 * (num_ranks - rank) - 1;
    const bool last = rank == num_ranks - 1;
    for (int i = 0; i < warm_up; ++i) order.F(rank);
    for (int i = 0; i < num_micro_batches; ++i) {
      order.I(rank);
      // From i = 2 * rank on 2p - 1 micro-batches are held. When the forwards are used up before,
      // every rank but the last has to wait for its next I anyway.
      const bool forwards_left = i + warm_up < num_micro_batches;
      if (i >= 2 * rank || (!forwards_left && !last)) order.W();
      order.F(rank);
    }
    plan.orders.push_back(order.Finish());
  }
  return plan;
}

}  // namespace trireme
