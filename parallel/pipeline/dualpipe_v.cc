// DualPipeV: DualPipe (DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 3.2.1) cut in
// half, on stages in a V. From the middle on a forward of one stage is next to a backward of the
// other, so that an executor can hide the communication inside one behind the computation of the
// other. Without that, with tF = tI = tW and at least 2p micro-batches, it takes as long as ZB-V;
// each rank holds p + 1/2 micro-batches.
#include <algorithm>

#include "parallel/pipeline/order_writer.h"

namespace trireme {

StatusOr<Plan> MakeDualPipeV(int num_ranks, int num_micro_batches, const Params&) {
  Plan plan{VPlacement(num_ranks, num_micro_batches), {}};
  const int p = num_ranks;
  for (int rank = 0; rank < p; ++rank) {
    OrderWriter order(plan);  // Of the 2p of the pattern it leaves out those that are not there.
    const int down = rank, up = 2 * p - 1 - rank;  // The two stages.
    const int below = p - 1 - rank;                // Ranks between this one and the bottom.
    for (int i = 0; i < 2 * below; ++i) order.F(down);
    for (int i = 0; i <= rank; ++i) {
      order.F(down);
      order.F(up);
    }
    for (int i = 0; i < below; ++i) {
      order.I(up);
      order.W();
      order.F(up);
    }
    for (int i = p + below; i < std::max(2 * p, num_micro_batches); ++i) {
      order.F(down);
      order.B(up);
      order.F(up);
      order.B(down);
    }
    for (int i = 0; i < below; ++i) {
      order.B(up);
      order.F(up);
      order.B(down);
    }
    // Backwards only. The second half lets its W's wait, for the time when the last gradients are
    // still on their way.
    for (int i = 0; i < 2 * (rank + 1); ++i) {
      const int stage = i % 2 == 0 ? up : down;
      i <= rank ? order.B(stage) : order.I(stage);
    }
    for (int i = 0; i < below; ++i) {
      order.W();
      order.I(down);
    }
    plan.orders.push_back(order.Finish());
  }
  return plan;
}

}  // namespace trireme
