// The rounds of one exchange as steps go by: when the next one is due.
#pragma once

#include <cstdint>

#include "parallel/sync/sync_rule.h"
#include "parallel/sync/sync_schedule.h"

namespace trireme {

class RoundClock {
 public:
  // `rule` outlives this. Of `fragments` exchanges with one rule, number `fragment` has a shorter
  // first round, so that they take turns.
  RoundClock(const SyncRule& rule, RunTimes times, int64_t fragment = 0, int64_t fragments = 1);

  bool IsDue(int64_t steps_done) const { return steps_done == round_start_ + period_; }
  bool IsLast(int64_t steps_done) const { return steps_done == times_.num_steps; }
  // A round is over, the next one begins. What the replicas measured in it counts for rules that
  // need signals.
  void BeginNext(double mean_loss);

  int64_t round() const { return round_; }
  int64_t round_start() const { return round_start_; }
  int64_t period() const { return period_; }
  bool needs_signals() const { return rule_.needs_signals(); }
  // Of the round's first step, and added up over its steps.
  double learning_rate() const { return times_.learning_rate(round_start_); }
  double LearningRateSum() const;

  // Where it stands, for checkpoints. A loaded position may lie in a longer run than it was saved
  // in.
  struct Position {
    int64_t round = 0, round_start = 0, period = 0, last_period = 0;
    Signals signals;
  };
  Position position() const { return {round_, round_start_, period_, last_period_, signals_}; }
  void set_position(const Position& position);

 private:
  int64_t NextPeriodAt(int64_t step) const;

  const SyncRule& rule_;
  const RunTimes times_;
  int64_t round_ = 0, round_start_ = 0, period_ = 0, last_period_ = 0;
  Signals signals_;
};

}  // namespace trireme
