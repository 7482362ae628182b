// The methods of scans.def, over slots that are already in the order of the scan: places.
#pragma once

#include <memory>
#include <vector>

#include "parallel/sequence/affine_scan.h"

namespace trireme {

struct ScanChain {
  Communicator& axis;
  const char* purpose;
  std::vector<int> owners;                   // By place.
  std::vector<std::vector<uint8_t>> resets;  // [place][line]
  Tensor known_decay;                        // [places, lines, h, 1], or undefined.
  std::vector<int> places;                   // This rank's, ascending.
  std::vector<AffineMap> maps;               // Of `places`.
  Tensor initial;                            // Enters place 0.

  int size() const { return static_cast<int>(owners.size()); }
  Device& device() const { return maps[0].state.device(); }
};

// chain_scan.cc
std::unique_ptr<PendingScan> StartChainScan(ScanChain chain, int64_t num_blocks);
// gather_scan.cc
std::unique_ptr<PendingScan> StartGatherScan(ScanChain chain);
// tree_scan.cc
std::unique_ptr<PendingScan> StartTreeScan(ScanChain chain);

// A map as one message, without what every rank knows.
class MapMessage {
 public:
  explicit MapMessage(const ScanChain& chain);

  int64_t size() const { return state_size_ + transition_size_; }  // In elements.
  Tensor Empty(int64_t count) const;                               // Of `count` maps.
  void Write(const AffineMap& map, const Tensor& message) const;
  // What places [begin, end) do together.
  AffineMap Read(const Tensor& message, int begin, int end) const;

 private:
  const ScanChain& chain_;
  int64_t state_size_, transition_size_;
};

}  // namespace trireme
