// The state of a run, as plain data: what checkpoints save and load.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>

#include "absl/strings/string_view.h"

#include "core/base/status.h"
#include "core/tensor/box.h"
#include "core/tensor/tensor.h"

namespace trireme {

// What per-replica state, a tensor whose first dimension counts replicas, becomes when a run goes
// on with another number of replicas.
enum class ReplicaPolicy {
  kShared,    // No replica dimension.
  kSame,      // All replicas hold the same: each new one takes the first.
  kMean,      // Each new one takes the mean.
  kSumOverN,  // Each of n new ones takes the sum over n: the total stays.
  kDrop,      // Starts again from zero.
  kRefuse,    // Does not load.
};
const char* ReplicaPolicyName(ReplicaPolicy policy);

// One rank's part of a tensor; the same description saves it and loads it. When saving, the boxes
// of all ranks together tile the whole, each element in one box; a box may be empty. When loading,
// any boxes will do.
struct SavedTensor {
  std::string name;  // "layers.3.mixer.wq", "layers.3.mixer.wq/exp_avg"
  Shape global;      // With the replica dimension in front when the policy is not kShared.
  Box local;
  Tensor data;  // Of shape local.size. Read by a save; filled by a load, then contiguous.
  ReplicaPolicy policy = ReplicaPolicy::kShared;
};

using SavedScalar = std::variant<int64_t, double, std::string>;

// What is not a tensor. On saving, rank 0's counts.
struct CheckpointInfo {
  int64_t step = 0;
  std::string config_hash;
  std::string config;                   // Text of the resolved config; may be empty.
  std::map<std::string, int64_t> mesh;  // Axis name to size.
  std::map<std::string, SavedScalar> scalars;

  // DATA_LOSS when there is none of that name or it has another type.
  StatusOr<int64_t> Integer(absl::string_view name) const;
  StatusOr<double> Number(absl::string_view name) const;
  StatusOr<std::string> Text(absl::string_view name) const;
};

}  // namespace trireme
