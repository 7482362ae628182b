// The ranks that hold one replica together, as this rank talks to them. A nullptr: no one else.
#pragma once

#include <map>

#include "core/base/status.h"
#include "core/module/parameter.h"
#include "parallel/comm/communicator.h"

namespace trireme {

struct ReplicaGroups {
  Communicator* owners = nullptr;  // Shard and sequence: they share the ownership of slices.
  Communicator* tensor = nullptr;
  std::map<int, Communicator*> copies;  // By ParamSpec::copies: those that have the same part.
  Communicator* tied = nullptr;         // The stages that use the same parameters.
  Communicator* losses = nullptr;  // Pipeline, shard and sequence: each has a part of the loss.
  Communicator* whole = nullptr;   // All of the replica.

  static int RankIn(const Communicator* group) { return group == nullptr ? 0 : group->rank(); }
  static int SizeOf(const Communicator* group) { return group == nullptr ? 1 : group->size(); }

  // release: as of ShardedParameters.
  Ownership ownership(bool release = false) const {
    return {RankIn(owners), SizeOf(owners), release && owners != nullptr};
  }
};

// Adds up a few f64 numbers over a group.
Status SumOver(Communicator* group, Device& device, const char* purpose, absl::Span<double> values);

}  // namespace trireme
