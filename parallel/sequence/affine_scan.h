// The exclusive scan of affine maps along the slots of a sequence axis: what linear attention says
// to other ranks, for every rule and in both directions. Of slots 0, 1, ... it finds the state that
// enters each one, and the state that leaves the last one; backward, in reverse order and with the
// matrices transposed, it does the same to the gradients of the states.
//
// Legend: h heads, K key width, V value width.
#pragma once

#include <memory>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/sequence/affine_map.h"
#include "parallel/sequence/scan_plan.h"

namespace trireme {

enum class ScanDirection : uint8_t { kForward, kReverse };

// What every rank knows of all slots, in sequence order.
struct ScanSlots {
  std::vector<int> owners;
  std::vector<std::vector<uint8_t>> resets;  // [slot][line]
  // Log decays [slots, lines, h, 1] that follow from the numbers of tokens; undefined: each rank
  // has those of its own slots, or none are needed.
  Tensor known_decay;
};

class PendingScan {
 public:
  // Destroyed before Join it gives the scan up, and with it the communicator's later calls.
  virtual ~PendingScan() = default;

  struct States {
    std::vector<Tensor> entering;  // Of own slots, in sequence order: [lines, h, K, V].
    Tensor leaving;                // The last slot of the direction; undefined on ranks without it.
  };
  // Once, in the same order of scans on every rank. Undefined tensors stand for zeros.
  virtual States Join() = 0;
};

class AffineScan {
 public:
  // `axis` must outlive it.
  AffineScan(const ScanPlan& plan, Communicator& axis) : plan_(plan), axis_(axis) {}

  // maps: of own slots, in sequence order; their resets are those of `slots`. `initial`, read on
  // the rank of the first slot of the direction, enters it. A collective: maps have the same sizes
  // on every rank.
  std::unique_ptr<PendingScan> Start(ScanSlots slots, std::vector<AffineMap> maps,
                                     const Tensor& initial, ScanDirection direction) const;

  const ScanPlan& plan() const { return plan_; }
  Communicator& axis() const { return axis_; }

 private:
  const ScanPlan plan_;
  Communicator& axis_;
};

}  // namespace trireme
