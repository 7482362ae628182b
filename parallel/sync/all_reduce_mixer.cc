// All-reduce of encodings that add up. For each pass of the codec:
//   wire = encode(values);  wire = sum_k w_k wire_k, by the communicator;  decode(wire)
// The first pass is under way when Start returns.
#include <cmath>
#include <numeric>

#include "absl/functional/function_ref.h"

#include "core/base/log.h"
#include "core/device/cpu/cpu_device.h"
#include "parallel/comm/traffic.h"
#include "parallel/sync/mix_parts.h"
#include "parallel/sync/mixers.h"

namespace trireme {
namespace {

// Where each piece begins, and at the end where the last one ends, when piece i has size(i).
template <typename Size>
std::vector<int64_t> Begins(size_t num_pieces, const Size& size) {
  std::vector<int64_t> begins = {0};
  for (size_t i = 0; i < num_pieces; ++i) begins.push_back(begins.back() + size(i));
  return begins;
}

class PendingAllReduce : public PendingMix {
 public:
  explicit PendingAllReduce(const MixInput& input)
      : replica_(input.replica),
        codec_(input.bundle.codec),
        pieces_(input.bundle.pieces.begin(), input.bundle.pieces.end()),
        round_(input.bundle.round),
        weights_(input.bundle.weights.begin(), input.bundle.weights.end()),
        takes_part_(weights_[input.replica.rank()] != 0),
        values_(input.values),
        mean_(input.mean),
        sent_(input.sent),
        state_(input.linear_state),
        purpose_(input.purpose) {
    CheckInput(input);
    offsets_ = Begins(pieces_.size(), [&](size_t i) { return pieces_[i].size; });
    states_ = Begins(pieces_.size(), [&](size_t i) { return codec_.LinearStateSize(pieces_[i]); });
    CHECK_EQ(state_.defined() ? state_.numel() : 0, states_.back()) << "linear state [mix]";
  }

  void Start() {
    if (sent_.defined() && !takes_part_) sent_.Fill(0);
    if (!codec_.wire_is_values()) return StartPass();
    if (takes_part_) {
      if (sent_.defined()) sent_.CopyFrom(values_);
      if (mean_.raw() != values_.raw()) mean_.CopyFrom(values_);
    } else {
      mean_.Fill(0);
    }
    wire_ = mean_;
    Reduce();
  }

  Status Finish() override {
    return CatchFailure([&] {
      while (work_ != nullptr) {
        ThrowIfError(work_->Wait());
        work_.reset();
        if (codec_.wire_is_values()) return;
        Decode(mean_);
        if (++pass_ < codec_.num_linear_passes()) StartPass();
      }
      // With one pass it was decoded before the wires were added up.
      if (sent_.defined() && takes_part_ && codec_.num_linear_passes() > 1) SendMean();
    });
  }

 private:
  void StartPass() {
    wires_ = Begins(pieces_.size(), [&](size_t i) { return codec_.LinearSize(pieces_[i], pass_); });
    wire_ = Tensor::Empty(values_.device(), {wires_.back()}, values_.dtype(),
                          MemoryKind::kCommunication, purpose_);
    if (takes_part_) {
      ForEachPiece([&](size_t i) {
        codec_.LinearEncode(pass_, pieces_[i], round_, Of(values_, offsets_, i),
                            Of(state_, states_, i), Of(wire_, wires_, i));
      });
      if (sent_.defined() && codec_.num_linear_passes() == 1) Decode(sent_);
    } else {
      wire_.Fill(0);
    }
    Reduce();
  }

  void Reduce() {
    Call call{purpose_};
    call.weights = weights_;
    work_ = replica_.AllReduce(wire_, call);
  }

  // The mean of the replicas that take part, so that what those lose and the sum add up to theirs.
  void SendMean() {
    const double sum = std::accumulate(weights_.begin(), weights_.end(), 0.0);
    sent_.CopyFrom(mean_);
    if (std::abs(sum - 1) > 1e-6) Scale(Elements(sent_, 0, sent_.numel()), 1 / sum);
  }

  void Decode(const Tensor& values) {
    ForEachPiece([&](size_t i) {
      codec_.LinearDecode(pass_, pieces_[i], round_, Of(wire_, wires_, i), Of(state_, states_, i),
                          Of(values, offsets_, i));
    });
  }

  static View Of(const Tensor& tensor, const std::vector<int64_t>& begins, size_t i) {
    if (!tensor.defined()) return {};
    return Elements(tensor, begins[i], begins[i + 1] - begins[i]);
  }

  void ForEachPiece(absl::FunctionRef<void(size_t i)> fn) {
    AsCpu(values_.device())
        .ParallelFor(static_cast<int64_t>(pieces_.size()), 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) fn(static_cast<size_t>(i));
        });
  }

  Communicator& replica_;
  const Codec& codec_;
  const std::vector<CodecPiece> pieces_;
  const RoundKey round_;
  const std::vector<double> weights_;
  const bool takes_part_;
  const Tensor values_, mean_, sent_, state_;
  const char* const purpose_;
  std::vector<int64_t> offsets_, states_, wires_;  // Of pieces, in each of the vectors.
  int pass_ = 0;
  Tensor wire_;
  std::unique_ptr<Work> work_;
};

class AllReduceMixer : public Mixer {
 public:
  Status Check(const Codec& codec, int) const override {
    if (codec.num_linear_passes() > 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "all_reduce: encodings of this codec do not add up; all_gather and scatter_gather take it");
  }

  StatusOr<std::unique_ptr<PendingMix>> Start(const MixInput& input) const override {
    auto mix = std::make_unique<PendingAllReduce>(input);
    RETURN_IF_ERROR(CatchFailure([&] { mix->Start(); }));
    return mix;
  }

  int64_t SentBytes(const MixBundle& bundle, DType dtype, Place place,
                    int64_t block_bytes) const override {
    int64_t bytes = 0;
    for (int pass = 0; pass < bundle.codec.num_linear_passes(); ++pass) {
      int64_t size = 0;
      for (const CodecPiece& piece : bundle.pieces) size += bundle.codec.LinearSize(piece, pass);
      bytes += AllReduceBytes(place, size, dtype, block_bytes);
    }
    return bytes;
  }
};

}  // namespace

StatusOr<std::unique_ptr<Mixer>> MakeAllReduceMixer(const Params&) {
  return std::make_unique<AllReduceMixer>();
}

}  // namespace trireme
