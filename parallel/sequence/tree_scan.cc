// In round k each rank joins the map of the 2^k slots up to its own with that of the 2^k slots
// before them, from the rank at that distance (Hillis & Steele 1986); what it has of the slots
// before its own alone is what enters it. When ranks own two slots there are two such passes: the
// last rank of the first is the first of the second, and its second slot's map takes the state in.
//
// Bytes sent by the rank at place p of c in a pass: a map for every k with p + 2^k < c.
#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/log.h"
#include "parallel/sequence/scans.h"

namespace trireme {
namespace {

class TreeScan : public PendingScan {
 public:
  explicit TreeScan(ScanChain chain)
      : chain_(std::move(chain)), message_(chain_), passes_(chain_.places.size()) {
    for (size_t i = 0; i < passes_.size(); ++i) {
      const int first = static_cast<int>(i) * ranks();
      CHECK(chain_.places[i] >= first && chain_.places[i] < first + ranks() &&
            (i == 0 || chain_.owners[first] == chain_.owners[first - 1]))
          << "slots that do not come in passes [tree]";
      Receive(i);
    }
    for (size_t i = 0; i < passes_.size(); ++i) {
      if (i == 0 && Place(0) == 0) TakeIn(0, chain_.initial);
      // The others' own maps do not wait for anything.
      if (i == 0 || Place(i) > 0) Send(i, 0, chain_.maps[i]);
    }
  }

  States Join() override {
    States states;
    Tensor total;  // That leaves the pass, on its last rank.
    for (size_t i = 0; i < passes_.size(); ++i) {
      states.entering.push_back(Place(i) == 0 ? (i == 0 ? chain_.initial : total) : Tensor());
      AffineMap all = chain_.maps[i];  // Of the slots up to this one.
      if (i > 0 && Place(i) == 0) {
        TakeIn(i, total);
        all = chain_.maps[i];
        Send(i, 0, all);
      }
      total = Run(i, std::move(all), &states.entering.back());
    }
    for (const auto& sent : sent_) sent->Join(chain_.device().compute());
    if (chain_.places.back() + 1 == chain_.size()) states.leaving = total;
    return states;
  }

 private:
  struct Arrival {
    Tensor message;
    std::unique_ptr<Work> work;
  };

  int ranks() const { return chain_.axis.size(); }
  // In pass i.
  int Place(size_t i) const { return chain_.places[i] % ranks(); }
  int PeerAt(size_t i, int place) const { return chain_.owners[i * ranks() + place]; }

  void Receive(size_t i) {
    for (int distance = 1; distance <= Place(i); distance *= 2) {
      const Tensor message = message_.Empty(1);
      passes_[i].push_back({message, chain_.axis.Recv(message, PeerAt(i, Place(i) - distance),
                                                      {.purpose = chain_.purpose})});
    }
  }

  void Send(size_t i, int round, const AffineMap& map) {
    const int to = Place(i) + (1 << round);
    if (to >= ranks()) return;
    const Tensor message = message_.Empty(1);
    message_.Write(map, message);
    sent_.push_back(chain_.axis.Send(message, PeerAt(i, to), {.purpose = chain_.purpose}));
  }

  // What enters a pass becomes part of its first map.
  void TakeIn(size_t i, const Tensor& state) {
    chain_.maps[i].state = Apply(chain_.maps[i], state);
  }

  // The rounds of pass i, from the map of the own slot; round 0 is sent. Returns what leaves it.
  Tensor Run(size_t i, AffineMap all, Tensor* entering) {
    AffineMap before;  // Of the slots before this one, so far.
    for (int round = 0; (1 << round) < ranks(); ++round) {
      if (round > 0) Send(i, round, all);
      const int last = Place(i) - (1 << round);
      if (last < 0) continue;
      Arrival& arrival = passes_[i][round];
      arrival.work->Join(chain_.device().compute());
      const int first = std::max(0, last - (1 << round) + 1), begin = static_cast<int>(i) * ranks();
      AffineMap earlier = message_.Read(arrival.message, begin + first, begin + last + 1);
      // With what enters the pass taken in; there is no use for its transition.
      if (first == 0) std::fill(earlier.resets.begin(), earlier.resets.end(), 1);
      before = round == 0 ? earlier : Compose(before, earlier);
      all = Compose(chain_.maps[i], before);
      *entering = before.state;
    }
    return all.state;
  }

  ScanChain chain_;
  const MapMessage message_;
  std::vector<std::vector<Arrival>> passes_;  // By round.
  std::vector<std::unique_ptr<Work>> sent_;
};

}  // namespace

std::unique_ptr<PendingScan> StartTreeScan(ScanChain chain) {
  return std::make_unique<TreeScan>(std::move(chain));
}

}  // namespace trireme
