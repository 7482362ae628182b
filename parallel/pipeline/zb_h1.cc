// ZB-H1: Qi et al., "Zero bubble pipeline parallelism" (2023), section 2.1. 1F1B with the weight
// gradients put off into the idle time at the end: idle (p - 1)(tF + tI - tW) when there are at
// least p micro-batches and tW is the least; no rank holds more than p of them, as rank 0 of 1F1B.
#include "parallel/pipeline/order_writer.h"

namespace trireme {

StatusOr<Plan> MakeZeroBubbleH1(int num_ranks, int num_micro_batches, const Params&) {
  Plan plan{LoopPlacement(num_ranks, num_micro_batches, 1), {}};
  for (int rank = 0; rank < num_ranks; ++rank) {
    OrderWriter order(plan);
    for (int i = 0; i < num_ranks - rank - 1; ++i) order.F(rank);
    for (int i = 0; i < num_micro_batches; ++i) {
      order.F(rank);
      order.I(rank);
      if (i >= rank) order.W();  // Now p micro-batches are held.
    }
    plan.orders.push_back(order.Finish());
  }
  return plan;
}

}  // namespace trireme
