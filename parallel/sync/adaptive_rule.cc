// AdaComm (Wang & Joshi: Adaptive Communication Strategies to Achieve the Best Error-Runtime
// Trade-Off in Local-Update SGD, MLSys 2019): replicas talk the more the lower the loss. The round
// that begins block j has
//   H_j = ceil(H_0 sqrt((eta_0 F_j) / (eta_j F_0)))   where that is less than the period before,
//         half the period before                      where it is not.
// eta is the learning rate, eta_0 its peak; F the mean loss of a round, F_0 that of the first.
// Rounds within a block, and within warm-up, keep the period that they have. Blocks count steps,
// where the paper counts seconds, which would not be the same on every rank.
#include <algorithm>
#include <cmath>

#include "parallel/sync/rule_checks.h"
#include "parallel/sync/sync_rule.h"

namespace trireme {
namespace {

class AdaptiveRule : public SyncRule {
 public:
  AdaptiveRule(int64_t period, int64_t block_steps) : period_(period), block_steps_(block_steps) {}

  int64_t Period(const Clock& clock, const Signals& signals) const override {
    const int64_t last = clock.last_period;
    if (last == 0) return period_;
    const bool begins_block = clock.step / block_steps_ > (clock.step - last) / block_steps_;
    if (!begins_block || clock.step < clock.warmup_steps) return last;
    const double period =
        std::ceil(period_ * std::sqrt(clock.peak_learning_rate * signals.loss /
                                      (clock.learning_rate * signals.first_loss)));
    // A quotient that is no number, with a first loss of zero, comes to the second.
    return period < static_cast<double>(last) ? static_cast<int64_t>(period) : (last + 1) / 2;
  }

  bool needs_signals() const override { return true; }

 private:
  const int64_t period_, block_steps_;
};

}  // namespace

StatusOr<std::unique_ptr<SyncRule>> MakeAdaptive(const Params& params, int64_t num_steps) {
  RETURN_IF_ERROR(CheckPeriod(params.Int("period"), num_steps));
  return std::make_unique<AdaptiveRule>(params.Int("period"), params.Int("block_steps"));
}

}  // namespace trireme
