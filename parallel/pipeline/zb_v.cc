// ZB-V: Qi et al., "Pipeline parallelism with controllable memory" (2024). Stages in a V; with
// tF = tI = tW and at least 2p - 1 micro-batches no rank is idle between its first action and its
// last, and each holds p micro-batches, as rank 0 of 1F1B.
#include <algorithm>

#include "parallel/pipeline/order_writer.h"

namespace trireme {

StatusOr<Plan> MakeZeroBubbleV(int num_ranks, int num_micro_batches, const Params&) {
  Plan plan{VPlacement(num_ranks, num_micro_batches), {}};
  const int p = num_ranks;
  for (int rank = 0; rank < p; ++rank) {
    OrderWriter order(
        plan);  // Of the 2p - 1 of the pattern it leaves out those that are not there.
    const int down = rank, up = 2 * p - 1 - rank;  // The two stages.
    const auto turn = [&] {                        // Forward, and at once backward.
      order.F(up);
      order.I(up);
      order.W();
    };
    for (int i = 0; i < 2 * (p - rank) - 1; ++i) order.F(down);
    for (int i = 0; i < rank; ++i) {
      order.F(up);
      order.F(down);
    }
    for (int i = 0; i < p - rank; ++i) turn();
    for (int i = p; i < std::max(2 * p - 1, num_micro_batches); ++i) {
      order.F(down);  // There is none left in the last rounds.
      order.I(down);
      order.W();
      turn();
    }
    for (int i = 0; i < rank; ++i) {
      order.I(down);
      order.I(up);
    }
    for (int i = 0; i < p - rank; ++i) {
      order.I(down);
      order.W();
    }
    plan.orders.push_back(order.Finish());
  }
  return plan;
}

}  // namespace trireme
