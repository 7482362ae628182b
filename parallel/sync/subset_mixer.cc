// Partial participation: in a round only the drawn replicas have weights. Without memories they are
// scaled to sum 1 (FedAvg). With one (EF21-PP, Fatkhullin et al. 2021) what a replica leaves out is
// in its memory, and comes with its own weight when it is drawn. All else is that of all_reduce, or
// of all_gather when encodings do not add up.
#include <numeric>

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
    const int participants = static_cast<int>(participants_);
    return bundle.remembers ? DrawSubset(bundle.round, bundle.weights, participants)
                            : DrawScaledSubset(bundle.round, bundle.weights, participants);
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
  for (int i = 0; i < participants; ++i) chosen[order[i]] = weights[order[i]];
  return chosen;
}

std::vector<double> DrawScaledSubset(const RoundKey& round, absl::Span<const double> weights,
                                     int participants) {
  std::vector<double> chosen = DrawSubset(round, weights, participants);
  double sum = std::accumulate(chosen.begin(), chosen.end(), 0.0);
  if (sum == 0) {
    const std::vector<double> ones(weights.size(), 1.0);
    chosen = DrawSubset(round, ones, participants);
    sum = participants;
  }
  for (double& weight : chosen) weight /= sum;
  return chosen;
}

StatusOr<std::unique_ptr<Mixer>> MakeSubsetMixer(const Params& params) {
  ASSIGN_OR_RETURN(auto all_reduce, MakeAllReduceMixer(params));
  ASSIGN_OR_RETURN(auto all_gather, MakeAllGatherMixer(params));
  return std::make_unique<SubsetMixer>(params.Int("participants"), std::move(all_reduce),
                                       std::move(all_gather));
}

}  // namespace trireme
