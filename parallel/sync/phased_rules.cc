// Rules whose period is a function of the step alone: post_local (Lin et al.: Don't Use Large
// Mini-Batches, Use Local SGD, ICLR 2020), swap (Gupta, Serrano, DeCoste: Stochastic Weight
// Averaging in Parallel, ICLR 2020), stagewise (Shen et al.: STL-SGD, AAAI 2021), list.
#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"

#include "parallel/sync/rule_checks.h"
#include "parallel/sync/sync_rule.h"

namespace trireme {
namespace {

// 1 before the switch, then `period`.
class SwitchedRule : public SyncRule {
 public:
  SwitchedRule(int64_t switch_step, int64_t period) : switch_step_(switch_step), period_(period) {}

  int64_t Period(const Clock& clock, const Signals&) const override {
    return clock.step < switch_step_ ? 1 : period_;
  }

 private:
  const int64_t switch_step_, period_;
};

// Stage s has floor(period * growth^s), cut where the stage ends.
class StagewiseRule : public SyncRule {
 public:
  StagewiseRule(int64_t period, double growth, std::vector<int64_t> boundaries)
      : period_(period), growth_(growth), boundaries_(std::move(boundaries)) {}

  int64_t Period(const Clock& clock, const Signals&) const override {
    const auto end = std::upper_bound(boundaries_.begin(), boundaries_.end(), clock.step);
    const double period = period_ * std::pow(growth_, end - boundaries_.begin());
    const int64_t rest = end == boundaries_.end() ? kRestOfTheRun : *end - clock.step;
    return period < static_cast<double>(rest) ? static_cast<int64_t>(period) : rest;
  }

 private:
  const int64_t period_;
  const double growth_;
  const std::vector<int64_t> boundaries_;
};

class ListRule : public SyncRule {
 public:
  explicit ListRule(std::vector<int64_t> steps) : steps_(std::move(steps)) {}

  int64_t Period(const Clock& clock, const Signals&) const override {
    const auto next = std::upper_bound(steps_.begin(), steps_.end(), clock.step);
    return next == steps_.end() ? kRestOfTheRun : *next - clock.step;
  }

 private:
  const std::vector<int64_t> steps_;
};

Status CheckSwitch(int64_t switch_step, int64_t num_steps) {
  if (switch_step < num_steps) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("switch_step ", switch_step, " is not within a run of ", num_steps, " steps"));
}

}  // namespace

StatusOr<std::unique_ptr<SyncRule>> MakePostLocal(const Params& params, int64_t num_steps) {
  const int64_t switch_step = params.Int("switch_step"), period = params.Int("period");
  RETURN_IF_ERROR(CheckSwitch(switch_step, num_steps));
  RETURN_IF_ERROR(CheckPeriod(period, num_steps - switch_step));
  return std::make_unique<SwitchedRule>(switch_step, period);
}

StatusOr<std::unique_ptr<SyncRule>> MakeSwap(const Params& params, int64_t num_steps) {
  RETURN_IF_ERROR(CheckSwitch(params.Int("switch_step"), num_steps));
  return std::make_unique<SwitchedRule>(params.Int("switch_step"), kRestOfTheRun);
}

StatusOr<std::unique_ptr<SyncRule>> MakeStagewise(const Params& params, int64_t num_steps) {
  RETURN_IF_ERROR(CheckPeriod(params.Int("period"), num_steps));
  ASSIGN_OR_RETURN(std::vector<int64_t> boundaries,
                   ParseSteps("boundaries", params.String("boundaries"), num_steps - 1));
  return std::make_unique<StagewiseRule>(params.Int("period"), params.Float("growth"),
                                         std::move(boundaries));
}

StatusOr<std::unique_ptr<SyncRule>> MakeList(const Params& params, int64_t num_steps) {
  ASSIGN_OR_RETURN(std::vector<int64_t> steps,
                   ParseSteps("steps", params.String("steps"), num_steps));
  return std::make_unique<ListRule>(std::move(steps));
}

}  // namespace trireme
