#include "parallel/sync/sync_schedule.h"

#include "core/base/log.h"
#include "parallel/sync/round_clock.h"

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

SyncSchedule WalkRun(const SyncRule& rule, const RunTimes& times, int64_t fragment,
                     int64_t fragments) {
  CHECK(!rule.needs_signals());
  SyncSchedule schedule;
  if (times.first_step >= times.num_steps) return schedule;
  for (RoundClock clock(rule, times, fragment, fragments); clock.period() > 0; clock.BeginNext(0)) {
    const double learning_rate = clock.learning_rate();
    if (schedule.runs.empty() || schedule.runs.back().period != clock.period()) {
      schedule.runs.push_back(
          {clock.round(), 0, clock.round_start(), clock.period(), learning_rate, learning_rate});
    }
    RoundRun& run = schedule.runs.back();
    ++run.num_rounds;
    run.last_learning_rate = learning_rate;
  }
  return schedule;
}

}  // namespace trireme
