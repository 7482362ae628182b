// Plain data parallelism: each rank takes its share of the global batch, and the gradient sums are
// all-reduced in buckets of whole units while backward runs.
#pragma once

#include <memory>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/sync/gradient_exchange.h"

namespace trireme {

struct AllReduceOptions {
  int64_t global_batch_size = 1;       // Samples of a step.
  int64_t micro_batch_size = 0;        // Samples of an item; 0: the rank's whole share.
  int64_t bucket_bytes = 16 << 20;     // A bucket closes when it has this much.
};

// The items of one rank's step, a pure function: loaders run ahead of the loop with it. The samples of step s
// are [s * global_batch_size, (s + 1) * global_batch_size), cut into shares by ShareOf.
std::vector<WorkItem> MicroBatches(const AllReduceOptions& options, int rank, int size, int64_t step);

class AllReduceExchange : public GradientExchange {
 public:
  // Throws Failure when memory runs out.
  AllReduceExchange(const ParameterSet& parameters, Device& device, Communicator& replica,
                    const AllReduceOptions& options);

  std::vector<WorkItem> Plan(int64_t step) override;
  GradientBuffers& sink(int) override { return gradients_; }
  void UnitDone(int sink, int unit) override;
  StatusOr<std::vector<CompletedJob>> Finish(absl::Span<const LossSum> losses) override;

 private:
  // Units [first, last], reduced in one call. Fixed when the exchange is made, so that all ranks make
  // the same calls, whichever units report and whether a rank has work or not.
  struct Bucket {
    int first, last;
  };

  Device& device_;
  Communicator& replica_;
  const AllReduceOptions options_;
  GradientBuffers gradients_;
  std::vector<Bucket> buckets_;  // From the last units to the first, as backward meets them.
  int64_t job_ = 0;
  size_t num_started_ = 0;  // Buckets of this step whose reduction runs.
  std::vector<std::unique_ptr<Work>> in_flight_;
};

// Rank `rank` of `size` has samples [first, last) of a batch of n: equal shares, the first n % size ranks one
// more.
struct Share {
  int64_t first, last;
};
Share ShareOf(int64_t n, int rank, int size);

}  // namespace trireme
