// 1F1B: Narayanan et al., "PipeDream" (2019), flushed every step as in "Efficient large-scale
// language model training on GPU clusters" (2021). Idle (p - 1)(tF + tB), as GPipe; rank r holds
// min(p - r, m) micro-batches.
#include "parallel/pipeline/order_writer.h"

namespace trireme {

StatusOr<Plan> Make1F1B(int num_ranks, int num_micro_batches, const Params&) {
  Plan plan{LoopPlacement(num_ranks, num_micro_batches, 1), {}};
  for (int rank = 0; rank < num_ranks; ++rank) {
    OrderWriter order(plan);
    const int warm_up = num_ranks - rank - 1;
    for (int i = 0; i < warm_up; ++i) order.F(rank);
    for (int i = 0; i < num_micro_batches; ++i) {
      order.F(rank);
      order.B(rank);
    }
    plan.orders.push_back(order.Finish());
  }
  return plan;
}

}  // namespace trireme
