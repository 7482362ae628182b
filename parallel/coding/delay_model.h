// How long workers take: models to draw from, and measured traces. Of round r and worker w with a
// part L of a job's work to do,
//   time = fixed[r, w] + L per_load[r, w]
#pragma once

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/params.h"
#include "core/base/registry.h"
#include "core/base/status.h"

namespace trireme {

struct DelayProfile {
  DelayProfile(int num_workers, int64_t num_rounds)
      : num_workers(num_workers),
        num_rounds(num_rounds),
        fixed(num_workers * num_rounds),
        per_load(num_workers * num_rounds) {}

  int num_workers;
  int64_t num_rounds;
  std::vector<double> fixed, per_load;  // Seconds, round after round.
};

// Fills a profile that is all zeros. Draws are functions of (seed, round, worker), whatever the
// number of rounds.
using DelayModel = void (*)(uint64_t seed, const Params& params, DelayProfile* profile);

// The registry, made from delay_models.def.
absl::Span<const Entry<DelayModel>> DelayModels();

// INVALID_ARGUMENT for an unknown name, parameters that it does not take, or sizes below one or
// above 2^26 times.
StatusOr<DelayProfile> DrawDelays(absl::string_view name, int64_t num_workers, int64_t num_rounds,
                                  uint64_t seed, const ParamMap& params = {});

// One line a round, one number a worker: seconds, measured while every worker did a part `load` of
// a job, of which each `per_load` seconds a whole job are taken to depend on the load. Numbers are
// separated by blanks or commas; lines that begin with # and empty ones are skipped.
// INVALID_ARGUMENT with the line.
StatusOr<DelayProfile> ParseTrace(absl::string_view text, double load, double per_load);

}  // namespace trireme
