// The gradient of one job inside one replica: where the micro-batches of this rank add up, and what
// becomes of it when the ranks of the replica put theirs together, each for the slices it owns.
//
// What a gradient needs follows from its ParamSpec alone: a sum to the owners over shard and
// sequence; a sum over the tensor axis where partial_grad or copies say so; a sum over the stages
// that tie it. Buckets of whole units start on their way as soon as their last contribution is in,
// in an order that all ranks share: from the last unit to the first, tied parameters at the end.
#pragma once

#include <memory>
#include <set>
#include <vector>

#include "core/module/gradient_buffers.h"
#include "parallel/shard/gradient_buckets.h"
#include "parallel/shard/replica_groups.h"

namespace trireme {

struct ReplicaGradientOptions {
  int64_t bucket_bytes = 16 << 20;  // A bucket closes when it has this much.
  // 1: gradients stay whole until the last micro-batch. 2 and 3: each micro-batch's go to their
  // owners as soon as its unit is done, and their memory with them.
  int zero_stage = 1;
};

class ReplicaGradients {
 public:
  // Throws Failure when memory runs out. All of the references outlive this.
  ReplicaGradients(const ParameterSet& parameters, Device& device, const ReplicaGroups& groups,
                   const ReplicaGradientOptions& options);

  GradientBuffers& sink() { return *sink_; }
  // The gradients of the owned slices, in the making.
  const UnitTensors& owned() const { return owned_; }

  int num_buckets() const { return static_cast<int>(buckets_.size()); }
  Tensor OwnedBucket(int bucket) const;

  // A new job: forgets all sums.
  void Reset();
  // A micro-batch has added its part to all gradients of `unit`; with `last` no other will. Starts
  // what can go on its way.
  Status UnitDone(int unit, bool last);
  // Waits for gradients of micro-batches that are on their way to their owners.
  Status Settle() { return early_ ? Receive() : absl::OkStatus(); }
  // The buckets whose owned gradients are complete inside the replica: a prefix of all.
  int num_complete() const { return num_complete_; }
  // Every unit is done: waits until all buckets are complete.
  Status Finish();

 private:
  // A gradient on its way to its owners.
  struct Transfer {
    int parameter;
    Tensor part;  // Added to the owned gradient on arrival; undefined when it arrives there.
    std::unique_ptr<Work> work;
  };

  Status Advance();
  void Send(int parameter);
  Status Receive();
  Status Complete(const GradientBucket& bucket);

  const ParameterSet& parameters_;
  Device& device_;
  const ReplicaGroups groups_;
  const bool early_;         // Every micro-batch goes to the owners.
  std::vector<int> layout_;  // GradientLayout.
  UnitTensors owned_;
  std::unique_ptr<GradientBuffers> sink_;
  std::vector<GradientBucket> buckets_;
  std::vector<bool> touched_;  // Whether an owned gradient has a contribution.
  std::vector<Transfer> transfers_;
  std::set<int> done_;  // Units.
  bool finishing_ = false;
  bool declarations_checked_ = false;  // By the gradients of the first job.
  int num_started_ = 0, num_complete_ = 0;
};

}  // namespace trireme
