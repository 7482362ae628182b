#include "parallel/sync/channel.h"

#include <algorithm>

#include "core/base/log.h"
#include "parallel/sync/host_vector.h"

namespace trireme {
namespace {

// Sums of equal weights: what a mixer is asked about before any round.
std::vector<double> EqualWeights(int count) { return std::vector<double>(count, 1.0 / count); }

}  // namespace

Channel::Channel(Communicator& replica, Device& host, DType dtype,
                 absl::Span<const CodecPiece> pieces, const ChannelOptions& options)
    : replica_(replica),
      options_(options),
      pieces_(pieces.begin(), pieces.end()),
      weights_(EqualWeights(replica.size())) {
  const auto zeros = [&](int64_t count, const char* label) {
    return Tensor::Zeros(host, {count}, dtype, MemoryKind::kCommunication, label);
  };
  int64_t size = 0, linear = 0;
  for (const CodecPiece& piece : pieces_) {
    size += piece.size;
    linear += options_.codec.LinearStateSize(piece);
  }
  values_ = zeros(size, "exchanged values");
  mean_ = values_;
  if (options_.memory != ExchangeMemory::kNone) {
    sent_ = zeros(size, "sent values");
    memory_ = zeros(size, "exchange memory");
    mean_ = zeros(size, "exchanged mean");
  }
  if (options_.memory == ExchangeMemory::kDifference) change_ = zeros(size, "mean change");
  if (options_.memory != ExchangeMemory::kNone) {
    const Place place = {replica.rank(), replica.size()};
    server_error_ = zeros(options_.mixer.ServerErrorRange(Bundle(0), place).size(), "mean error");
  }
  push_weight_ = Tensor::Full(host, {1}, DType::kF64, 1, MemoryKind::kCommunication, "push weight");
  linear_state_ = zeros(linear, "codec state");
  int64_t at = 0;
  for (const CodecPiece& piece : pieces_) {
    const int64_t count = options_.codec.LinearStateSize(piece);
    if (count > 0) {
      options_.codec.LinearStart(piece, options_.seed, linear_state_.View1D(at, count).view());
    }
    at += count;
  }
}

MixBundle Channel::Bundle(int64_t round) const {
  return {options_.codec,
          pieces_,
          {options_.seed, round},
          weights_,
          options_.memory != ExchangeMemory::kNone};
}

Status Channel::Start(int64_t round, absl::Span<const double> weights) {
  CHECK(pending_ == nullptr) << "an exchange is in flight";
  weights_.assign(weights.begin(), weights.end());
  return CatchFailure([&] {
    if (options_.memory == ExchangeMemory::kErrorFeedback) {
      values_.Accumulate(memory_, options_.memory_decay);
    } else if (options_.memory == ExchangeMemory::kDifference) {
      Scale(values_, 1 / (weights_[replica_.rank()] * replica_.size()));
      values_.Accumulate(memory_, -1);
    }
    const MixInput input = {
        replica_,        Bundle(round), values_,       change_.defined() ? change_ : mean_,
        sent_,           linear_state_, server_error_, push_weight_,
        options_.purpose};
    auto pending = options_.mixer.Start(input);
    ThrowIfError(pending.status());
    pending_ = *std::move(pending);
  });
}

Status Channel::Finish() {
  if (pending_ == nullptr) return absl::OkStatus();
  const std::unique_ptr<PendingMix> pending = std::move(pending_);
  RETURN_IF_ERROR(pending->Finish());
  return CatchFailure([&] {
    if (options_.memory == ExchangeMemory::kErrorFeedback) {
      memory_.CopyFrom(values_);
      memory_.Accumulate(sent_, -1);
    } else if (options_.memory == ExchangeMemory::kDifference) {
      memory_.Accumulate(sent_);
      mean_.Accumulate(change_);
    }
  });
}

std::vector<ExchangeState> Channel::States() const {
  using Layout = ExchangeState::Layout;
  using Resize = ExchangeState::Resize;
  std::vector<ExchangeState> states;
  const auto add = [&](const char* name, Layout layout, const Tensor& data, int64_t first,
                       bool of_replica, Resize resize) {
    if (data.defined() && data.numel() > 0) {
      states.push_back({name, layout, data, first, of_replica, resize});
    }
  };
  const bool feedback = options_.memory == ExchangeMemory::kErrorFeedback;
  // An error that is left belongs to the sum; of EF21's h the mean is what all agree on.
  add("memory", Layout::kElements, memory_, 0, true, feedback ? Resize::kSumOverN : Resize::kMean);
  if (options_.memory == ExchangeMemory::kDifference) {
    add("mean", Layout::kElements, mean_, 0, false, Resize::kMean);
  }
  if (server_error_.defined()) {
    const Mixer::Range range =
        options_.mixer.ServerErrorRange(Bundle(0), Place{replica_.rank(), replica_.size()});
    add("server_error", Layout::kElements, server_error_, range.first, false, Resize::kMean);
    if (!states.empty()) states.back().is_cut_by_replica = states.back().name == "server_error";
  }
  add("codec", Layout::kCodec, linear_state_, 0, false, Resize::kMean);
  if (!options_.mixer.means()) {
    add("push_weight", Layout::kNumber, push_weight_, 0, true, Resize::kMean);
  }
  return states;
}

}  // namespace trireme
