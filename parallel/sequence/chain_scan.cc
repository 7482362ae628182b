// The state goes along the slots: each rank waits for what enters its slot, and passes on what
// leaves it (Sun et al. 2024, LASP). Cut into blocks of value columns, several are under way at
// once, and a hop takes a block's time instead of a state's (Chou et al. 2025, ZeCO); columns do
// not mix, so that a transition, diagonal or matrix, stays where it is. A rank that owns
// neighbouring slots hands the state to itself.
//
// Bytes sent by a rank: those of a state for each of its slots that another rank's slot follows.
#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/share.h"
#include "core/ops/ops.h"
#include "parallel/sequence/scans.h"

namespace trireme {
namespace {

class ChainScan : public PendingScan {
 public:
  ChainScan(ScanChain chain, int64_t num_blocks)
      : chain_(std::move(chain)),
        num_blocks_(static_cast<int>(std::min(num_blocks, std::max<int64_t>(1, columns())))),
        entering_(chain_.places.size()) {
    for (size_t i = 0; i < chain_.places.size(); ++i) {
      const int place = chain_.places[i];
      if (i > 0 && chain_.places[i - 1] + 1 == place) {
        stretches_.back().end = i + 1;
      } else {
        stretches_.push_back({i, i + 1, Arrivals(place)});
      }
    }
    // Nothing comes before it: what leaves it can be under way from now on.
    if (chain_.places[0] == 0) Run(stretches_[0]);
  }

  States Join() override {
    for (Stretch& stretch : stretches_) {
      if (!stretch.done) Run(stretch);
    }
    for (const auto& sent : sent_) sent->Join(chain_.device().compute());
    States states;
    for (const std::vector<Tensor>& blocks : entering_) states.entering.push_back(Joined(blocks));
    states.leaving = Joined(leaving_);
    return states;
  }

 private:
  struct Arrival {
    Tensor state;
    std::unique_ptr<Work> work;
  };
  // Neighbouring places of this rank, by index, and the blocks that come to the first.
  struct Stretch {
    size_t begin, end;
    std::vector<Arrival> arrivals;
    bool done = false;
  };

  int64_t columns() const { return chain_.maps[0].state.dim(-1); }
  Share ColumnsOf(int block) const { return ShareOf(columns(), block, num_blocks_); }

  std::vector<Arrival> Arrivals(int place) const {
    std::vector<Arrival> arrivals;
    for (int block = 0; block < num_blocks_ && place > 0; ++block) {
      Shape shape = chain_.maps[0].state.shape();
      shape[-1] = ColumnsOf(block).size();
      const Tensor state = Tensor::Empty(chain_.device(), shape, chain_.maps[0].state.dtype(),
                                         MemoryKind::kCommunication, chain_.purpose);
      arrivals.push_back(
          {state, chain_.axis.Recv(state, chain_.owners[place - 1], {.purpose = chain_.purpose})});
    }
    return arrivals;
  }

  Tensor Entering(Stretch& stretch, int block) {
    if (!stretch.arrivals.empty()) {
      stretch.arrivals[block].work->Join(chain_.device().compute());
      return stretch.arrivals[block].state;
    }
    if (!chain_.initial.defined()) return Tensor();
    return Slice(chain_.initial, -1, ColumnsOf(block).first, ColumnsOf(block).size());
  }

  void Run(Stretch& stretch) {
    const int last = chain_.places[stretch.end - 1];
    for (int block = 0; block < num_blocks_; ++block) {
      Tensor state = Entering(stretch, block);
      for (size_t i = stretch.begin; i < stretch.end; ++i) {
        entering_[i].push_back(state);
        state =
            Apply(Columns(chain_.maps[i], ColumnsOf(block).first, ColumnsOf(block).size()), state);
      }
      if (last + 1 == chain_.size()) {
        leaving_.push_back(state);
      } else {
        sent_.push_back(chain_.axis.Send(state.Contiguous(), chain_.owners[last + 1],
                                         {.purpose = chain_.purpose}));
      }
    }
    stretch.done = true;
  }

  static Tensor Joined(const std::vector<Tensor>& blocks) {
    if (blocks.size() < 2 || !blocks[0].defined()) return blocks.empty() ? Tensor() : blocks[0];
    return Concat(blocks, -1);
  }

  const ScanChain chain_;
  const int num_blocks_;
  std::vector<Stretch> stretches_;
  std::vector<std::unique_ptr<Work>> sent_;
  std::vector<std::vector<Tensor>> entering_;  // By own place and block.
  std::vector<Tensor> leaving_;                // By block.
};

}  // namespace

std::unique_ptr<PendingScan> StartChainScan(ScanChain chain, int64_t num_blocks) {
  return std::make_unique<ChainScan>(std::move(chain), num_blocks);
}

}  // namespace trireme
