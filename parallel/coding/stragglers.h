// What the times of past rounds say about stragglers: who is late how often, and how workers become
// slow and recover.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "core/base/status.h"

namespace trireme {

// Gilbert-Elliott: transitions between fast and slow from one round to the next.
struct StragglerEstimate {
  double late = 0;   // The part of all (round, worker) that is late.
  double enter = 0;  // How likely a fast worker is late in the next round.
  double leave = 1;  // How likely a late worker is in time in the next round.
  double burst = 0;  // Mean number of rounds of being late without a break; 0 when nobody is.
  std::vector<double> late_by_worker;
};

// `times`: round after round, one a worker. Late is who takes more than (1 + mu) times the
// `reference`-th fastest of its round (see StopRule). Half a transition is added to each count that
// `enter` and `leave` are made of, so that neither is certain after a few rounds.
// INVALID_ARGUMENT when `times` is empty or has no whole rounds.
StatusOr<StragglerEstimate> EstimateStragglers(absl::Span<const double> times, int num_workers,
                                               double mu, int reference);

// The values below which parts `of` (in [0, 1], ascending) of the times are: between two of them,
// linearly. NaN when there are no times.
std::vector<double> Quantiles(absl::Span<const double> times, absl::Span<const double> of);

}  // namespace trireme
