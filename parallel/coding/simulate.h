// How long a code takes on given delays, with a stop rule: no gradients, only who arrives when.
#pragma once

#include <limits>

#include "parallel/coding/delay_model.h"
#include "parallel/coding/gradient_code.h"
#include "parallel/coding/stop_rule.h"

namespace trireme {

struct SimulationOptions {
  StopRule rule;
  int64_t num_jobs = 0;
  // Jobs made of so many: gradient accumulation. The jobs' work is done in fewer, longer rounds.
  int accumulate = 1;
  // A late worker goes on with what it has; its results count while their job is open, and it joins
  // the round that it then finds. Otherwise it drops its work and begins the next round with all.
  bool use_late = false;
  // Stops after the round in which so many seconds are passed: a search has something faster.
  double give_up_after = std::numeric_limits<double>::infinity();
};

struct SimulatedRun {
  double seconds = 0;
  int64_t num_rounds = 0;  // Fewer than it takes when it gave up.
  int64_t num_waits = 0;   // Rounds that ended later than (1 + mu) times the fastest.
  int64_t num_lost = 0;    // Jobs that did not decode on time: none, with these rules.
  double mean_late = 0;    // Workers that had not arrived when a round ended.
  double mean_load = 0;    // Of a worker in a round, of a job that is not accumulated.
};

// Rounds 0 .. num_jobs + delay - 1 of the profile. INVALID_ARGUMENT, with the numbers, when it has
// fewer, or is of another number of workers.
StatusOr<SimulatedRun> SimulateCode(const GradientCode& code, const DelayProfile& profile,
                                    const SimulationOptions& options);

}  // namespace trireme
