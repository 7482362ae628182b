// The rounds of a whole run, from its rule and its learning rates: a pure function that runs
// nothing, by the clock that a trainer goes by.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/sync/sync_rule.h"

namespace trireme {

struct RunTimes {
  int64_t first_step = 0;  // Of the first round.
  int64_t num_steps = 0;   // Where the last round ends.
  int64_t warmup_steps = 0;
  double peak_learning_rate = 0;
  std::function<double(int64_t step)> learning_rate;
};

// Rounds of one period that follow each other.
struct RoundRun {
  int64_t first_round = 0, num_rounds = 0;
  int64_t first_step = 0, period = 0;
  double first_learning_rate = 0, last_learning_rate = 0;  // At the first and at the last round.

  int64_t end_step() const { return first_step + num_rounds * period; }
};

struct SyncSchedule {
  std::vector<RoundRun> runs;  // They tile [first_step, num_steps).

  // Every round ends with one.
  int64_t num_exchanges() const;
  // Of the round in which `step` is one.
  int64_t PeriodAt(int64_t step) const;
};

// The rule does not need signals. Of fragments that take turns, see RoundClock.
SyncSchedule WalkRun(const SyncRule& rule, const RunTimes& times, int64_t fragment = 0,
                     int64_t fragments = 1);

}  // namespace trireme
