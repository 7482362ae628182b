// The entries of mixers.def, and whom they draw.
#pragma once

#include <memory>
#include <vector>

#include "absl/strings/string_view.h"

#include "parallel/sync/mixer.h"

namespace trireme {

inline constexpr ParamInfo kSubsetMixerParams[] = {
    {"participants", ParamType::kInt, nullptr, "replicas that take part in a round", 1},
};

StatusOr<std::unique_ptr<Mixer>> MakeAllReduceMixer(const Params& params);
StatusOr<std::unique_ptr<Mixer>> MakeAllGatherMixer(const Params& params);
StatusOr<std::unique_ptr<Mixer>> MakeScatterGatherMixer(const Params& params);
StatusOr<std::unique_ptr<Mixer>> MakeGossipMixer(const Params& params);
StatusOr<std::unique_ptr<Mixer>> MakeRandomPartnerMixer(const Params& params);
StatusOr<std::unique_ptr<Mixer>> MakeSubsetMixer(const Params& params);

// The replicas in an order drawn for `name`.
std::vector<int> DrawOrder(const RoundKey& round, absl::string_view name, int num_replicas);
// How far a gossip of `round` goes: rank r sends to (r + shift) mod K. 2^(round mod ceil(log2 K)).
int GossipShift(int64_t round, int num_replicas);
// The partner of each replica; of an odd number one is its own.
std::vector<int> DrawPartners(const RoundKey& round, int num_replicas);
// `weights` of the participants; zero for all others.
std::vector<double> DrawSubset(const RoundKey& round, absl::Span<const double> weights,
                               int participants);
// The same with sum 1. When all of theirs are zero, participants weigh the same.
std::vector<double> DrawScaledSubset(const RoundKey& round, absl::Span<const double> weights,
                                     int participants);

}  // namespace trireme
