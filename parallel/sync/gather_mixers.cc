// Mixers whose encodings are gathered, for any codec.
//
// all_gather: everybody gets the encodings of all, and adds up what they decode to.
//
// scatter_gather (1-bit Adam, Tang et al. 2021, algorithm 1): range j of the elements is replica
// j's. In two phases,
//   x_j = e_j + sum_k w_k C(v_k) on range j;  e_j = x_j - C(x_j);  everybody gets C(x_j),
// so that sum_k w_k C(v_k) + e_before = mean + e_after.
#include <numeric>

#include "core/base/log.h"
#include "parallel/comm/traffic.h"
#include "parallel/sync/mix_parts.h"
#include "parallel/sync/mixers.h"

namespace trireme {
namespace {

Tensor ByteTensor(const MixInput& input, int64_t bytes) {
  return Tensor::Empty(input.values.device(), {bytes}, DType::kU8, MemoryKind::kCommunication,
                       input.purpose);
}

int64_t Sum(absl::Span<const int64_t> counts, int end) {
  return std::accumulate(counts.begin(), counts.begin() + end, int64_t{0});
}

// What each replica's encoding of `bytes` brings; nothing of those that take no part.
std::vector<int64_t> CountsOf(absl::Span<const double> weights, int64_t bytes) {
  std::vector<int64_t> counts;
  for (const double weight : weights) counts.push_back(weight == 0 ? 0 : bytes);
  return counts;
}

// The encodings that arrived one behind another, with their weights.
std::vector<Encoded> Arrived(const Tensor& bytes, absl::Span<const int64_t> counts,
                             absl::Span<const double> weights) {
  std::vector<Encoded> encoded;
  const uint8_t* next = bytes.data<uint8_t>();
  for (size_t k = 0; k < weights.size(); ++k) {
    if (weights[k] != 0) encoded.push_back({next, weights[k]});
    next += counts[k];
  }
  return encoded;
}

// What both have of their input. Spans of the input end with the call of Start.
struct GatherInput {
  explicit GatherInput(const MixInput& input)
      : replica(input.replica),
        codec(input.bundle.codec),
        pieces(input.bundle.pieces.begin(), input.bundle.pieces.end()),
        round(input.bundle.round),
        weights(input.bundle.weights.begin(), input.bundle.weights.end()),
        takes_part(weights[input.replica.rank()] != 0),
        mean(input.mean),
        purpose(input.purpose) {
    CheckInput(input);
  }

  // Into bytes; or says that nothing is sent.
  void Encode(const MixInput& input, absl::Span<const MixPart> parts, uint8_t* bytes) const {
    if (takes_part) {
      EncodeParts(codec, round, parts, input.values, bytes, input.sent);
    } else if (input.sent.defined()) {
      input.sent.Fill(0);
    }
  }

  Communicator& replica;
  const Codec& codec;
  const std::vector<CodecPiece> pieces;
  const RoundKey round;
  const std::vector<double> weights;
  const bool takes_part;
  const Tensor mean;
  const char* const purpose;
};

class PendingAllGather : public PendingMix {
 public:
  explicit PendingAllGather(const MixInput& input)
      : in_(input), parts_(CutParts(in_.codec, in_.pieces, in_.mean.dtype())) {
    counts_ = CountsOf(in_.weights, BytesOf(parts_));
    const int rank = in_.replica.rank();
    bytes_ = ByteTensor(input, Sum(counts_, in_.replica.size()));
    const Tensor own = bytes_.View1D(Sum(counts_, rank), counts_[rank]);
    in_.Encode(input, parts_, own.data<uint8_t>());
    Call call{in_.purpose};
    call.counts = counts_;
    work_ = in_.replica.AllGather(own, bytes_, call);
  }

  Status Finish() override {
    RETURN_IF_ERROR(work_->Wait());
    DecodeSum(in_.codec, in_.round, parts_, Arrived(bytes_, counts_, in_.weights), in_.mean);
    return absl::OkStatus();
  }

 private:
  const GatherInput in_;
  const std::vector<MixPart> parts_;
  std::vector<int64_t> counts_;  // Bytes of each replica.
  Tensor bytes_;
  std::unique_ptr<Work> work_;
};

class AllGatherMixer : public Mixer {
 public:
  Status Check(const Codec&, int) const override { return absl::OkStatus(); }

  StatusOr<std::unique_ptr<PendingMix>> Start(const MixInput& input) const override {
    std::unique_ptr<PendingMix> mix;
    RETURN_IF_ERROR(CatchFailure([&] { mix = std::make_unique<PendingAllGather>(input); }));
    return mix;
  }

  int64_t SentBytes(const MixBundle& bundle, DType dtype, Place place, int64_t) const override {
    const int64_t bytes = BytesOf(CutParts(bundle.codec, bundle.pieces, dtype));
    return AllGatherBytes(place, CountsOf(bundle.weights, bytes), DType::kU8);
  }
};

class PendingScatterGather : public PendingMix {
 public:
  explicit PendingScatterGather(const MixInput& input)
      : in_(input),
        begins_(CutRanges(in_.codec, in_.pieces, in_.replica.size())),
        server_error_(input.server_error) {
    const int rank = in_.replica.rank(), size = in_.replica.size();
    if (server_error_.defined()) {
      CHECK(server_error_.is_contiguous() && server_error_.dtype() == in_.mean.dtype() &&
            server_error_.numel() == begins_[rank + 1] - begins_[rank])
          << "server error [mix]";
    }
    std::vector<int64_t> sends;
    for (int k = 0; k < size; ++k) {
      ranges_.push_back(
          CutParts(in_.codec, in_.pieces, in_.mean.dtype(), {begins_[k], begins_[k + 1]}));
      range_bytes_.push_back(BytesOf(ranges_.back()));
      sends.push_back(in_.takes_part ? range_bytes_.back() : 0);
    }
    counts_ = CountsOf(in_.weights, range_bytes_[rank]);
    bytes_ = ByteTensor(input, Sum(sends, size));
    arrived_ = ByteTensor(input, Sum(counts_, size));
    in_.Encode(input, AllRanges(), bytes_.data<uint8_t>());
    Call call{in_.purpose};
    work_ = in_.replica.AllToAll(bytes_, sends, arrived_, counts_, call);
  }

  Status Finish() override {
    return CatchFailure([&] {
      ThrowIfError(work_->Wait());
      const int rank = in_.replica.rank(), size = in_.replica.size();
      const int64_t first = begins_[rank], num_own = begins_[rank + 1] - first;
      const Tensor own_mean = in_.mean.View1D(first, num_own);
      DecodeSum(in_.codec, in_.round, ranges_[rank], Arrived(arrived_, counts_, in_.weights),
                own_mean, first);
      if (server_error_.defined()) {
        AddScaled(Elements(own_mean, 0, num_own), 1, Elements(server_error_, 0, num_own));
        server_error_.CopyFrom(own_mean);
      }
      const Tensor gathered = Tensor::Empty(in_.mean.device(), {Sum(range_bytes_, size)},
                                            DType::kU8, MemoryKind::kCommunication, in_.purpose);
      const Tensor own = gathered.View1D(Sum(range_bytes_, rank), range_bytes_[rank]);
      // Decoded where it was: the mean is what all decode.
      EncodeParts(in_.codec, in_.round, ranges_[rank], in_.mean, own.data<uint8_t>(), in_.mean);
      if (server_error_.defined()) {
        AddScaled(Elements(server_error_, 0, num_own), -1, Elements(own_mean, 0, num_own));
      }
      Call call{in_.purpose};
      call.counts = range_bytes_;
      ThrowIfError(in_.replica.AllGather(own, gathered, call)->Wait());
      for (int k = 0; k < size; ++k) {
        if (k == rank) continue;
        DecodeParts(in_.codec, in_.round, ranges_[k],
                    gathered.data<uint8_t>() + Sum(range_bytes_, k), in_.mean);
      }
    });
  }

 private:
  // The parts of all ranges, one behind another as on the wire.
  std::vector<MixPart> AllRanges() const {
    std::vector<MixPart> parts;
    int64_t byte_offset = 0;
    for (size_t k = 0; k < ranges_.size(); ++k) {
      for (MixPart part : ranges_[k]) {
        part.byte_offset += byte_offset;
        parts.push_back(part);
      }
      byte_offset += range_bytes_[k];
    }
    return parts;
  }

  const GatherInput in_;
  const std::vector<int64_t> begins_;  // Of the ranges.
  const Tensor server_error_;
  std::vector<std::vector<MixPart>> ranges_;
  std::vector<int64_t> range_bytes_;
  std::vector<int64_t> counts_;  // Bytes of this replica's range, by sender.
  Tensor bytes_, arrived_;
  std::unique_ptr<Work> work_;
};

class ScatterGatherMixer : public Mixer {
 public:
  Status Check(const Codec&, int) const override { return absl::OkStatus(); }

  Range ServerErrorRange(const MixBundle& bundle, Place place) const override {
    const auto begins = CutRanges(bundle.codec, bundle.pieces, place.size);
    return {begins[place.rank], begins[place.rank + 1]};
  }

  StatusOr<std::unique_ptr<PendingMix>> Start(const MixInput& input) const override {
    std::unique_ptr<PendingMix> mix;
    RETURN_IF_ERROR(CatchFailure([&] { mix = std::make_unique<PendingScatterGather>(input); }));
    return mix;
  }

  // All but this replica's own range of its values; its own range of the mean, to all others.
  int64_t SentBytes(const MixBundle& bundle, DType dtype, Place place, int64_t) const override {
    const int64_t all = BytesOf(CutParts(bundle.codec, bundle.pieces, dtype));
    const int64_t own =
        BytesOf(CutParts(bundle.codec, bundle.pieces, dtype, ServerErrorRange(bundle, place)));
    return (bundle.weights[place.rank] == 0 ? 0 : all - own) + (place.size - 1) * own;
  }
};

}  // namespace

StatusOr<std::unique_ptr<Mixer>> MakeAllGatherMixer(const Params&) {
  return std::make_unique<AllGatherMixer>();
}

StatusOr<std::unique_ptr<Mixer>> MakeScatterGatherMixer(const Params&) {
  return std::make_unique<ScatterGatherMixer>();
}

}  // namespace trireme
