// Partial participation: the weights of a round are those of the drawn replicas, rescaled. All else
// is that of all_reduce, or of all_gather when encodings do not add up.
#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "parallel/sync/mixers.h"

namespace trireme {
namespace {

class SubsetMixer : public Mixer {
 public:
  SubsetMixer(int64_t participants, std::unique_ptr<Mixer> all_reduce,
              std::unique_ptr<Mixer> all_gather)
      : participants_(participants),
        all_reduce_(std::move(all_reduce)),
        all_gather_(std::move(all_gather)) {}

  Status Check(const Codec&, int num_replicas) const override {
    if (participants_ <= num_replicas) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("subset: ", participants_, " participants of ", num_replicas, " replicas"));
  }

  StatusOr<std::unique_ptr<PendingMix>> Start(const MixInput& input) const override {
    const std::vector<double> weights = WeightsOf(input.bundle);
    MixInput chosen = input;
    chosen.bundle.weights = weights;
    return For(input.bundle.codec).Start(chosen);
  }

  int64_t SentBytes(const MixBundle& bundle, DType dtype, Place place,
                    int64_t block_bytes) const override {
    const std::vector<double> weights = WeightsOf(bundle);
    MixBundle chosen = bundle;
    chosen.weights = weights;
    return For(bundle.codec).SentBytes(chosen, dtype, place, block_bytes);
  }

 private:
  std::vector<double> WeightsOf(const MixBundle& bundle) const {
    return DrawSubset(bundle.round, bundle.weights, static_cast<int>(participants_));
  }
  const Mixer& For(const Codec& codec) const {
    return codec.num_linear_passes() > 0 ? *all_reduce_ : *all_gather_;
  }

  const int64_t participants_;
  const std::unique_ptr<Mixer> all_reduce_, all_gather_;
};

}  // namespace

std::vector<double> DrawSubset(const RoundKey& round, absl::Span<const double> weights,
                               int participants) {
  const int size = static_cast<int>(weights.size());
  CHECK_LE(participants, size) << "[subset]";
  const std::vector<int> order = DrawOrder(round, "subset", size);
  std::vector<double> chosen(size, 0.0);
  double sum = 0;
  // In rank order, whatever the order drawn.
  for (int i = 0; i < participants; ++i) chosen[order[i]] = 1;
  for (int k = 0; k < size; ++k) sum += chosen[k] * weights[k];
  for (int k = 0; k < size; ++k) {
    if (chosen[k] != 0) chosen[k] = sum > 0 ? weights[k] / sum : 1.0 / participants;
  }
  return chosen;
}

StatusOr<std::unique_ptr<Mixer>> MakeSubsetMixer(const Params& params) {
  ASSIGN_OR_RETURN(auto all_reduce, MakeAllReduceMixer(params));
  ASSIGN_OR_RETURN(auto all_gather, MakeAllGatherMixer(params));
  return std::make_unique<SubsetMixer>(params.Int("participants"), std::move(all_reduce),
                                       std::move(all_gather));
}

}  // namespace trireme
