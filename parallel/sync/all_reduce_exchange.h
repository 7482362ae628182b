// Plain data parallelism: each rank takes its share of the global batch, and the gradient sums of
// the replicas are all-reduced in buckets of whole units while backward runs.
#pragma once

#include <memory>
#include <vector>

#include "core/base/share.h"
#include "parallel/comm/communicator.h"
#include "parallel/shard/replica_gradients.h"
#include "parallel/sync/gradient_exchange.h"

namespace trireme {

struct AllReduceOptions {
  int64_t global_batch_size = 1;    // Samples of a step.
  int64_t micro_batch_size = 0;     // Samples of an item; 0: the rank's whole share.
  int64_t bucket_bytes = 16 << 20;  // A bucket closes when it has this much.
  int zero_stage = 1;               // See ReplicaGradientOptions.
};

// The items of one share of a step, a pure function: loaders run ahead of the loop with it. The
// samples of step s are [s * global_batch_size, (s + 1) * global_batch_size), cut by ShareOf into
// `size` shares.
std::vector<WorkItem> MicroBatches(const AllReduceOptions& options, int rank, int size,
                                   int64_t step);

class AllReduceExchange : public GradientExchange {
 public:
  // Every rank of `replica` is a replica by itself. Throws Failure when memory runs out.
  AllReduceExchange(const ParameterSet& parameters, Device& device, Communicator& replica,
                    const AllReduceOptions& options);
  // A replica is made of several ranks. This rank takes share `share` of `num_shares` of a step's
  // samples.
  AllReduceExchange(const ParameterSet& parameters, Device& device, Communicator& replica,
                    const ReplicaGroups& inside, int share, int num_shares,
                    const AllReduceOptions& options);

  // Whether what follows is added up over the replicas; else it stays inside this one. The same on
  // all of them.
  void set_over_replicas(bool value) { over_replicas_ = value; }

  std::vector<WorkItem> Plan(int64_t step) override;
  GradientBuffers& sink(int) override { return gradients_.sink(); }
  void Reset() override;
  Status UnitDone(int sink, int unit, bool last) override;
  Status Settle() override { return gradients_.Settle(); }
  StatusOr<std::vector<CompletedJob>> Finish(absl::Span<const LossSum> losses) override;

  // Of the owned slices, after Finish.
  const UnitTensors& gradients() const { return gradients_.owned(); }

 private:
  void StartBuckets();

  Device& device_;
  Communicator& replica_;
  const ReplicaGroups inside_;
  const int share_, num_shares_;
  const AllReduceOptions options_;
  ReplicaGradients gradients_;
  bool over_replicas_ = true;
  int64_t job_ = 0;
  int num_started_ = 0;  // Buckets of this step that are on their way between replicas.
  std::vector<std::unique_ptr<Work>> in_flight_;
};

}  // namespace trireme
