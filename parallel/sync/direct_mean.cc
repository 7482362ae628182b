#include "parallel/sync/direct_mean.h"

#include <algorithm>

#include "parallel/sync/round_exchange.h"

namespace trireme {
namespace {

// Slices with fewer elements are packed: a message each would cost more than the copy.
constexpr int64_t kPackedElements = 1 << 16;

class DirectMean : public RoundExchange {
 public:
  DirectMean(Communicator& replica, Device& device, std::vector<Tensor> slices, const char* purpose)
      : replica_(replica), device_(device), purpose_(purpose) {
    int64_t packed = 0;
    for (Tensor& slice : slices) {
      const bool small = slice.numel() < kPackedElements;
      if (small) packed += slice.numel();
      (small ? small_ : large_).push_back(std::move(slice));
    }
    if (packed == 0) return;
    packed_ = Tensor::Empty(device, {packed}, small_[0].dtype(), MemoryKind::kCommunication,
                            "small slices");
  }

  Status Send(const RoundEnd& end) override {
    return CatchFailure([&] {
      const Call call = {.purpose = purpose_, .weights = end.weights};
      if (packed_.defined()) {
        ForEachSmall([](const Tensor& slice, const Tensor& packed) { packed.CopyFrom(slice); });
        works_.push_back(replica_.AllReduce(packed_, call));
      }
      for (const Tensor& slice : large_) works_.push_back(replica_.AllReduce(slice, call));
    });
  }

  Status Arrive() override {
    return CatchFailure([&] {
      for (const auto& work : works_) work->Join(device_.compute());
      works_.clear();
    });
  }

  Status Apply(const RoundEnd&) override {
    RETURN_IF_ERROR(Arrive());
    return CatchFailure([&] {
      ForEachSmall([](const Tensor& slice, const Tensor& packed) { slice.CopyFrom(packed); });
    });
  }

  bool makes_equal() const override { return true; }

 private:
  template <typename Fn>
  void ForEachSmall(Fn fn) const {
    int64_t at = 0;
    for (const Tensor& slice : small_) {
      if (slice.numel() > 0) fn(slice, packed_.View1D(at, slice.numel()).WithShape(slice.shape()));
      at += slice.numel();
    }
  }

  Communicator& replica_;
  Device& device_;
  const char* const purpose_;
  std::vector<Tensor> large_, small_;
  Tensor packed_;
  std::vector<std::unique_ptr<Work>> works_;
};

}  // namespace

std::vector<int64_t> DirectMeanCalls(absl::Span<const int64_t> slice_sizes) {
  std::vector<int64_t> calls;
  int64_t packed = 0;
  for (const int64_t size : slice_sizes) {
    if (size < kPackedElements) {
      packed += size;
    } else {
      calls.push_back(size);
    }
  }
  if (packed > 0) calls.insert(calls.begin(), packed);
  return calls;
}

std::unique_ptr<RoundExchange> MakeDirectMean(Communicator& replica, Device& device,
                                              std::vector<Tensor> slices, const char* purpose) {
  return std::make_unique<DirectMean>(replica, device, std::move(slices), purpose);
}

}  // namespace trireme
