#include "parallel/sequence/affine_scan.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/ops/ops.h"
#include "parallel/sequence/scans.h"

namespace trireme {
namespace {

// Of the dimension 0.
Tensor Reversed(const Tensor& x) {
  if (!x.defined()) return x;
  std::vector<Tensor> rows;
  for (int64_t i = x.dim(0) - 1; i >= 0; --i) rows.push_back(Slice(x, 0, i, 1));
  return Concat(rows, 0);
}

// Turns the results of a scan in reverse order back.
class ReversedScan : public PendingScan {
 public:
  explicit ReversedScan(std::unique_ptr<PendingScan> scan) : scan_(std::move(scan)) {}

  States Join() override {
    States states = scan_->Join();
    std::reverse(states.entering.begin(), states.entering.end());
    return states;
  }

 private:
  const std::unique_ptr<PendingScan> scan_;
};

int64_t BytesOf(const Tensor& x) { return x.defined() ? x.numel() * DTypeSize(x.dtype()) : 0; }

std::unique_ptr<PendingScan> StartBy(const ScanPlan& plan, ScanChain chain) {
  switch (plan.method) {
    case ScanMethod::kChain:
      return StartChainScan(std::move(chain), plan.num_blocks);
    case ScanMethod::kAllGather:
      return StartGatherScan(std::move(chain));
    default:
      return StartTreeScan(std::move(chain));
  }
}

}  // namespace

std::unique_ptr<PendingScan> AffineScan::Start(ScanSlots slots, std::vector<AffineMap> maps,
                                               const Tensor& initial,
                                               ScanDirection direction) const {
  const bool reverse = direction == ScanDirection::kReverse;
  ScanChain chain = {axis_,
                     reverse ? "scan state gradients" : "scan states",
                     std::move(slots.owners),
                     std::move(slots.resets),
                     slots.known_decay,
                     {},
                     std::move(maps),
                     initial};
  if (reverse) {
    std::reverse(chain.owners.begin(), chain.owners.end());
    std::reverse(chain.resets.begin(), chain.resets.end());
    chain.known_decay = Reversed(chain.known_decay);
    std::reverse(chain.maps.begin(), chain.maps.end());
    for (AffineMap& map : chain.maps) map = Transposed(std::move(map));
  }
  for (int place = 0; place < chain.size(); ++place) {
    if (chain.owners[place] == axis_.rank()) chain.places.push_back(place);
  }
  CHECK_EQ(chain.places.size(), chain.maps.size()) << "maps of this rank's slots [affine_scan]";
  const AffineMap& map = chain.maps[0];
  const ScanSizes sizes = {BytesOf(map.state),
                           chain.known_decay.defined() ? 0 : BytesOf(map.transition),
                           map.state.dim(-1)};
  const ScanPlan plan = ResolveScan(plan_, chain.owners, sizes);
  std::unique_ptr<PendingScan> scan = StartBy(plan, std::move(chain));
  return reverse ? std::make_unique<ReversedScan>(std::move(scan)) : std::move(scan);
}

MapMessage::MapMessage(const ScanChain& chain)
    : chain_(chain),
      state_size_(chain.maps[0].state.numel()),
      transition_size_(chain.maps[0].kind == TransitionKind::kIdentity ||
                               chain.known_decay.defined()
                           ? 0
                           : chain.maps[0].transition.numel()) {}

Tensor MapMessage::Empty(int64_t count) const {
  return Tensor::Empty(chain_.device(), {count * size()}, chain_.maps[0].state.dtype(),
                       MemoryKind::kCommunication, chain_.purpose);
}

void MapMessage::Write(const AffineMap& map, const Tensor& message) const {
  message.View1D(0, state_size_).WithShape(map.state.shape()).CopyFrom(map.state);
  if (transition_size_ == 0) return;
  message.View1D(state_size_, transition_size_)
      .WithShape(map.transition.shape())
      .CopyFrom(map.transition);
}

AffineMap MapMessage::Read(const Tensor& message, int begin, int end) const {
  const AffineMap& like = chain_.maps[0];
  AffineMap map = {like.kind,
                   {},
                   message.View1D(0, state_size_).WithShape(like.state.shape()),
                   chain_.resets[begin]};
  for (int place = begin + 1; place < end; ++place) {
    for (size_t line = 0; line < map.resets.size(); ++line) {
      map.resets[line] |= chain_.resets[place][line];
    }
  }
  if (transition_size_ > 0) {
    map.transition =
        message.View1D(state_size_, transition_size_).WithShape(like.transition.shape());
  } else if (chain_.known_decay.defined()) {
    map.transition = Sum(Slice(chain_.known_decay, 0, begin, end - begin), 0);
  }
  return map;
}

}  // namespace trireme
