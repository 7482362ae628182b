#include "parallel/sync/round_clock.h"

#include <algorithm>

#include "core/base/log.h"

namespace trireme {

RoundClock::RoundClock(const SyncRule& rule, RunTimes times, int64_t fragment, int64_t fragments)
    : rule_(rule), times_(std::move(times)), round_start_(times_.first_step) {
  CHECK(times_.first_step < times_.num_steps);
  period_ = NextPeriodAt(round_start_);
  if (fragments > 1) period_ = std::max<int64_t>(1, period_ * (fragment + 1) / fragments);
}

int64_t RoundClock::NextPeriodAt(int64_t step) const {
  Clock clock;
  clock.step = step;
  clock.num_steps = times_.num_steps;
  clock.warmup_steps = times_.warmup_steps;
  clock.round = round_;
  clock.last_period = last_period_;
  clock.learning_rate = times_.learning_rate(step);
  clock.peak_learning_rate = times_.peak_learning_rate;
  return NextPeriod(rule_, clock, signals_);
}

void RoundClock::BeginNext(double mean_loss) {
  if (round_ == 0) signals_.first_loss = mean_loss;
  signals_.loss = mean_loss;
  ++round_;
  round_start_ += period_;
  last_period_ = period_;
  // After the last round there is none.
  period_ = round_start_ < times_.num_steps ? NextPeriodAt(round_start_) : 0;
}

double RoundClock::LearningRateSum() const {
  double sum = 0;
  for (int64_t step = round_start_; step < round_start_ + period_; ++step) {
    sum += times_.learning_rate(step);
  }
  return sum;
}

void RoundClock::set_position(const Position& position) {
  round_ = position.round;
  round_start_ = position.round_start;
  period_ = position.period;
  last_period_ = position.last_period;
  signals_ = position.signals;
  // A run that has become longer, or shorter, than when this was saved.
  if (round_start_ < times_.num_steps) {
    if (period_ == 0) period_ = NextPeriodAt(round_start_);
    period_ = std::min(period_, times_.num_steps - round_start_);
  }
}

}  // namespace trireme
