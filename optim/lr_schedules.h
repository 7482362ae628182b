// Learning-rate schedules: pure functions of the step.
#pragma once

#include <cstdint>

#include "core/base/params.h"
#include "core/base/registry.h"

namespace trireme {

// The factor on the peak learning rate at `step` (from 0) of num_steps.
using LrScheduleFn = double (*)(const Params& params, int64_t step, int64_t num_steps);

absl::Span<const Entry<LrScheduleFn>> LrSchedules();

class LrSchedule {
 public:
  static StatusOr<LrSchedule> Create(absl::string_view name, const ParamMap& params,
                                     double peak_learning_rate, int64_t num_steps);
  double LearningRate(int64_t step) const { return peak_ * fn_(params_, step, num_steps_); }
  int64_t warmup_steps() const { return params_.Int("warmup_steps"); }

 private:
  LrScheduleFn fn_ = nullptr;
  Params params_;
  double peak_ = 0;
  int64_t num_steps_ = 0;
};

}  // namespace trireme
