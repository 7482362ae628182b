// Every rank gathers the maps of all slots in one collective, and folds those before its own in the
// order of the slots (Sun et al. 2025, LASP-2, algorithm 2, which has no decay). The arithmetic
// does not depend on who owns what.
//
// Bytes received by a rank of c: (c - 1) maps for each of its slots.
#include <utility>
#include <vector>

#include "parallel/sequence/scans.h"

namespace trireme {
namespace {

class GatherScan : public PendingScan {
 public:
  explicit GatherScan(ScanChain chain) : chain_(std::move(chain)), message_(chain_) {
    const int64_t own = static_cast<int64_t>(chain_.places.size());
    const Tensor sent = message_.Empty(own);
    gathered_ = message_.Empty(own * chain_.axis.size());
    // What enters place 0 is known here alone.
    if (chain_.places[0] == 0) chain_.maps[0].state = Apply(chain_.maps[0], chain_.initial);
    for (int64_t i = 0; i < own; ++i) {
      message_.Write(chain_.maps[i], sent.View1D(i * message_.size(), message_.size()));
    }
    work_ = chain_.axis.AllGather(sent, gathered_, {.purpose = chain_.purpose});
  }

  States Join() override {
    work_->Join(chain_.device().compute());
    std::vector<int> read(chain_.axis.size(), 0);  // Maps of each rank so far.
    States states;
    Tensor state;
    for (int place = 0; place < chain_.size(); ++place) {
      const int owner = chain_.owners[place];
      if (owner == chain_.axis.rank()) {
        states.entering.push_back(place == 0 ? chain_.initial : state);
      }
      if (place == chain_.places.back() && place + 1 < chain_.size()) break;
      const int64_t at = owner * static_cast<int64_t>(chain_.places.size()) + read[owner]++;
      state = Apply(
          message_.Read(gathered_.View1D(at * message_.size(), message_.size()), place, place + 1),
          state);
    }
    if (chain_.places.back() + 1 == chain_.size()) states.leaving = state;
    return states;
  }

 private:
  ScanChain chain_;
  const MapMessage message_;
  Tensor gathered_;
  std::unique_ptr<Work> work_;
};

}  // namespace

std::unique_ptr<PendingScan> StartGatherScan(ScanChain chain) {
  return std::make_unique<GatherScan>(std::move(chain));
}

}  // namespace trireme
