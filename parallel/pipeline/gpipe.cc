// GPipe: Huang et al., "GPipe: Efficient training of giant neural networks using pipeline
// parallelism" (2019). Idle (p - 1)(tF + tB); each rank holds all m micro-batches.
#include "parallel/pipeline/order_writer.h"

namespace trireme {

StatusOr<Plan> MakeGpipe(int num_ranks, int num_micro_batches, const Params&) {
  Plan plan{LoopPlacement(num_ranks, num_micro_batches, 1), {}};
  for (int rank = 0; rank < num_ranks; ++rank) {
    OrderWriter order(plan);
    for (int i = 0; i < num_micro_batches; ++i) order.F(rank);
    for (int i = 0; i < num_micro_batches; ++i) order.B(rank);
    plan.orders.push_back(order.Finish());
  }
  return plan;
}

}  // namespace trireme
