// Interleaved 1F1B: Narayanan et al., "Efficient large-scale language model training on GPU
// clusters using Megatron-LM" (2021), section 2.2. Idle (p - 1)(tF + tB) / V when there are at
// least p micro-batches; rank 0 holds p + (p - 1) / V of them.
//
// A rank takes its forwards group by group: a group of micro-batches goes through all its chunks
// before the next group starts; its backwards likewise, the last chunk first. A group of at least p
// keeps all ranks busy, and the groups are made as equal as they can be, so any number of
// micro-batches will do.
#include <algorithm>

#include "parallel/pipeline/order_writer.h"

namespace trireme {

StatusOr<Plan> MakeInterleaved(int num_ranks, int num_micro_batches, const Params& params) {
  const int num_chunks = static_cast<int>(params.Int("chunks"));
  const int num_groups = std::max(1, num_micro_batches / num_ranks);
  const int largest_group = (num_micro_batches + num_groups - 1) / num_groups;
  std::vector<int> chunks;  // Of the n-th forward of a rank; the n-th backward counts from the end.
  for (int group = 0; group < num_groups; ++group) {
    const int size = (num_micro_batches + num_groups - 1 - group) / num_groups;
    for (int chunk = 0; chunk < num_chunks; ++chunk) chunks.insert(chunks.end(), size, chunk);
  }

  Plan plan{LoopPlacement(num_ranks, num_micro_batches, num_chunks), {}};
  const size_t num_forwards = chunks.size();
  for (int rank = 0; rank < num_ranks; ++rank) {
    OrderWriter order(plan);
    const auto forward = [&](size_t n) { order.F(chunks[n] * num_ranks + rank); };
    const auto backward = [&](size_t n) {
      order.B((num_chunks - 1 - chunks[n]) * num_ranks + rank);
    };
    // With one chunk this is 1F1B.
    const int ranks_after = num_ranks - rank - 1;
    const size_t ahead = num_chunks == 1 ? ranks_after : 2 * ranks_after;
    const size_t warm_up =
        std::min(ahead + static_cast<size_t>(num_chunks - 1) * largest_group, num_forwards);
    for (size_t n = 0; n < warm_up; ++n) forward(n);
    for (size_t n = 0; n < num_forwards; ++n) {
      if (n + warm_up < num_forwards) forward(n + warm_up);
      backward(n);
    }
    plan.orders.push_back(order.Finish());
  }
  return plan;
}

}  // namespace trireme
