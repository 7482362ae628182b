// Which code suits given delays: codes, parameters and stop rules by simulation.
#pragma once

#include <string>
#include <vector>

#include "parallel/coding/simulate.h"

namespace trireme {

struct Candidate {
  std::string code;
  ParamMap params;
  StopRule rule;
  int accumulate = 1;

  std::string ToString() const;  // "m_sgc lambda=27 window=2, model, mu 1".
};

// The parameters of `code` that are worth trying with n workers and the rule: each s with another
// load; of the sequential codes every burst and window with at most max_delay rounds of delay (of
// sr_sgc windows of 1 + burst, 1 + 2 burst and 1 + 3 burst) and every lambda that makes a
// difference to the rule. Their base is cyclic repetition with the rule `model`, which counts, and
// fractional repetition else. Codes with no grid of their own have their defaults tried.
std::vector<Candidate> CandidatesOf(absl::string_view code, int num_workers, int max_delay,
                                    const StopRule& rule);

struct Ranked {
  Candidate candidate;
  SimulatedRun run;
};

// The one that is fastest with the first num_jobs jobs, the first of equals. INVALID_ARGUMENT when
// there is none, or what SimulateCode says.
StatusOr<Ranked> FastestOf(absl::Span<const Candidate> candidates, const DelayProfile& profile,
                           int64_t num_jobs);

struct Choice {
  Candidate candidate;
  double seconds_per_job = 0;  // On the probe.
  std::string why;             // One line.
};

// What to train with, given the rounds of a probe: uncoded, uncoded with two jobs in one round (if
// allow_accumulation: it halves the number of steps), fractional repetition, SR-SGC, M-SGC and
// retries with delays up to max_delay. A code is chosen only when it is at least 2 % faster than
// what needs none. INVALID_ARGUMENT for a probe of fewer than max_delay + 2 rounds.
StatusOr<Choice> ChooseCode(const DelayProfile& probe, int max_delay, bool allow_accumulation);

}  // namespace trireme
