// Mixers that move each replica towards one other and keep sum_k p_k v_k as it is, p_k being the
// push-sum weights: what a replica sends away it takes off itself, what its codec loses it keeps.
//
// gossip (SGP, Assran et al. 2019): with s = 2^(t mod ceil(log2 K)), replica k sends half to k + s:
//   p_k v_k <- p_k v_k - p_k/2 C(v_k) + p_j/2 C(v_j),  p_k <- p_k/2 + p_j/2,  j = k - s mod K
// The graph is regular, so p stays 1 if it was.
//
// random_partner (NoLoCo, Kolehmainen et al. 2025): pairs, p = 1:
//   v_k <- v_k - C(v_k)/2 + C(v_j)/2
#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/base/log.h"
#include "core/base/rng.h"
#include "parallel/sync/mix_parts.h"
#include "parallel/sync/mixers.h"

namespace trireme {
namespace {

constexpr int64_t kWeightBytes = sizeof(double);  // The push-sum weight goes in front.

// Whom a replica sends to and whom it receives from; itself when it stays alone.
struct Neighbours {
  int to, from;
};

class PendingNeighbour : public PendingMix {
 public:
  PendingNeighbour(const MixInput& input, Neighbours neighbours)
      : codec_(input.bundle.codec),
        round_(input.bundle.round),
        pieces_(input.bundle.pieces.begin(), input.bundle.pieces.end()),
        parts_(CutParts(codec_, pieces_, input.values.dtype())),
        mean_(input.mean),
        push_weight_(input.push_weight),
        purpose_(input.purpose),
        weight_(push_weight_.defined() ? push_weight_.Item() : 1) {
    CheckInput(input);
    Device& device = mean_.device();
    const auto message = [&] {
      return Tensor::Empty(device, {kWeightBytes + BytesOf(parts_)}, DType::kU8,
                           MemoryKind::kCommunication, input.purpose);
    };
    const Tensor sent = message();
    received_ = message();
    Tensor decoded = input.sent;
    if (!decoded.defined()) {
      decoded = Tensor::Empty(device, mean_.shape(), mean_.dtype(), MemoryKind::kCommunication,
                              input.purpose);
    }
    std::memcpy(sent.raw(), &weight_, kWeightBytes);
    EncodeParts(codec_, round_, parts_, input.values, sent.data<uint8_t>() + kWeightBytes, decoded);
    const Call call{input.purpose};
    works_[0] = input.replica.Send(sent, neighbours.to, call);
    works_[1] = input.replica.Recv(received_, neighbours.from, call);

    if (mean_.raw() != input.values.raw()) mean_.CopyFrom(input.values);
    const int64_t n = mean_.numel();
    if (weight_ != 1) Scale(Elements(mean_, 0, n), weight_);
    AddScaled(Elements(mean_, 0, n), -weight_ / 2, Elements(decoded, 0, n));
  }

  Status Finish() override {
    for (const auto& work : works_) RETURN_IF_ERROR(work->Wait());
    double theirs = 0;
    std::memcpy(&theirs, received_.raw(), kWeightBytes);
    return CatchFailure([&] {
      const int64_t n = mean_.numel();
      const Tensor decoded = Tensor::Empty(mean_.device(), mean_.shape(), mean_.dtype(),
                                           MemoryKind::kCommunication, purpose_);
      DecodeParts(codec_, round_, parts_, received_.data<uint8_t>() + kWeightBytes, decoded);
      AddScaled(Elements(mean_, 0, n), theirs / 2, Elements(decoded, 0, n));
      const double weight = weight_ / 2 + theirs / 2;
      if (weight != 1) Scale(Elements(mean_, 0, n), 1 / weight);
      if (push_weight_.defined()) push_weight_.Fill(weight);
    });
  }

 private:
  const Codec& codec_;
  const RoundKey round_;
  const std::vector<CodecPiece> pieces_;
  const std::vector<MixPart> parts_;
  const Tensor mean_, push_weight_;
  const char* const purpose_;
  const double weight_;
  Tensor received_;
  std::unique_ptr<Work> works_[2];
};

class NeighbourMixer : public Mixer {
 public:
  bool means() const override { return false; }
  Status Check(const Codec&, int) const override { return absl::OkStatus(); }

  StatusOr<std::unique_ptr<PendingMix>> Start(const MixInput& input) const override {
    const Place place = {input.replica.rank(), input.replica.size()};
    const Neighbours neighbours = NeighboursOf(input.bundle.round, place);
    std::unique_ptr<PendingMix> mix;
    RETURN_IF_ERROR(CatchFailure([&] {
      if (neighbours.to == place.rank) {
        CheckInput(input);
        if (input.sent.defined()) input.sent.CopyFrom(input.values);
        if (input.mean.raw() != input.values.raw()) input.mean.CopyFrom(input.values);
        mix = FinishedMix();
      } else {
        mix = std::make_unique<PendingNeighbour>(input, neighbours);
      }
    }));
    return mix;
  }

  int64_t SentBytes(const MixBundle& bundle, DType dtype, Place place, int64_t) const override {
    if (NeighboursOf(bundle.round, place).to == place.rank) return 0;
    return kWeightBytes + BytesOf(CutParts(bundle.codec, bundle.pieces, dtype));
  }

 protected:
  virtual Neighbours NeighboursOf(const RoundKey& round, Place place) const = 0;
};

class GossipMixer : public NeighbourMixer {
 protected:
  Neighbours NeighboursOf(const RoundKey& round, Place place) const override {
    const int shift = GossipShift(round.round, place.size);
    return {(place.rank + shift) % place.size, (place.rank - shift + place.size) % place.size};
  }
};

class RandomPartnerMixer : public NeighbourMixer {
 protected:
  Neighbours NeighboursOf(const RoundKey& round, Place place) const override {
    const int partner = DrawPartners(round, place.size)[place.rank];
    return {partner, partner};
  }
};

}  // namespace

int GossipShift(int64_t round, int num_replicas) {
  int rounds = 0;  // ceil(log2(num_replicas))
  while ((1 << rounds) < num_replicas) ++rounds;
  return rounds == 0 ? 0 : 1 << (round % rounds);
}

std::vector<int> DrawOrder(const RoundKey& round, absl::string_view name, int size) {
  std::vector<int> order(size);
  std::iota(order.begin(), order.end(), 0);
  const RngKey key = MakeRngKey(round.seed, name, static_cast<uint64_t>(round.round));
  for (int i = size - 1; i > 0; --i) {
    std::swap(order[i], order[Philox(key, i)[0] % static_cast<uint32_t>(i + 1)]);
  }
  return order;
}

std::vector<int> DrawPartners(const RoundKey& round, int num_replicas) {
  const std::vector<int> order = DrawOrder(round, "random_partner", num_replicas);
  std::vector<int> partners(num_replicas);
  for (int i = 0; i < num_replicas; ++i) {
    const int other = i ^ 1;
    partners[order[i]] = order[other < num_replicas ? other : i];
  }
  return partners;
}

StatusOr<std::unique_ptr<Mixer>> MakeGossipMixer(const Params&) {
  return std::make_unique<GossipMixer>();
}

StatusOr<std::unique_ptr<Mixer>> MakeRandomPartnerMixer(const Params&) {
  return std::make_unique<RandomPartnerMixer>();
}

}  // namespace trireme
