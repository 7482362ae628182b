#include "parallel/sync/sync_schedule.h"

#include "core/base/log.h"

namespace trireme {

int64_t SyncSchedule::num_exchanges() const {
  return runs.empty() ? 0 : runs.back().first_round + runs.back().num_rounds;
}

int64_t SyncSchedule::PeriodAt(int64_t step) const {
  for (const RoundRun& run : runs) {
    if (step >= run.first_step && step < run.end_step()) return run.period;
  }
  LOG(FATAL) << "step " << step << " is in no round";
  std::abort();
}

SyncSchedule WalkRun(const SyncRule& rule, const RunTimes& times) {
  CHECK(!rule.needs_signals());
  SyncSchedule schedule;
  Clock clock;
  clock.num_steps = times.num_steps;
  clock.warmup_steps = times.warmup_steps;
  clock.peak_learning_rate = times.peak_learning_rate;
  for (clock.step = times.first_step; clock.step < clock.num_steps; ++clock.round) {
    clock.learning_rate = times.learning_rate(clock.step);
    const int64_t period = NextPeriod(rule, clock, {});
    if (schedule.runs.empty() || schedule.runs.back().period != period) {
      schedule.runs.push_back(
          {clock.round, 0, clock.step, period, clock.learning_rate, clock.learning_rate});
    }
    RoundRun& run = schedule.runs.back();
    ++run.num_rounds;
    run.last_learning_rate = clock.learning_rate;
    clock.step += period;
    clock.last_period = period;
  }
  return schedule;
}

}  // namespace trireme
