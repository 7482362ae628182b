#include "optim/lr_schedules.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace trireme {
namespace {

constexpr ParamInfo kConstantParams[] = {
    {"warmup_steps", ParamType::kInt, "0",
     "steps of linear rise; step s has factor (s + 1) / steps", 0},
};
constexpr ParamInfo kDecayParams[] = {
    kConstantParams[0],
    {"final_factor", ParamType::kFloat, "0.1", "factor at the end of the decay", 0, 1},
    {"decay_steps", ParamType::kInt, "0",
     "steps from the end of warm-up to final_factor, which then stays; 0: up to the last step", 0},
};

double Warmup(const Params& params, int64_t step) {
  const int64_t steps = params.Int("warmup_steps");
  return step < steps ? static_cast<double>(step + 1) / steps : 1.0;
}

// 0 when warm-up ends, 1 at the end of the decay.
double Progress(const Params& params, int64_t step, int64_t num_steps) {
  const int64_t warmup = params.Int("warmup_steps");
  const int64_t given = params.Int("decay_steps");
  const int64_t span = given > 0 ? given : std::max<int64_t>(1, num_steps - 1 - warmup);
  return std::clamp(static_cast<double>(step - warmup) / span, 0.0, 1.0);
}

double ConstantFactor(const Params& params, int64_t step, int64_t) { return Warmup(params, step); }

double LinearFactor(const Params& params, int64_t step, int64_t num_steps) {
  const double last = params.Float("final_factor");
  return Warmup(params, step) * (1 - (1 - last) * Progress(params, step, num_steps));
}

double CosineFactor(const Params& params, int64_t step, int64_t num_steps) {
  const double last = params.Float("final_factor");
  const double cosine = std::cos(std::numbers::pi * Progress(params, step, num_steps));
  return Warmup(params, step) * (last + (1 - last) * (1 + cosine) / 2);
}

}  // namespace

absl::Span<const Entry<LrScheduleFn>> LrSchedules() {
  static constexpr Entry<LrScheduleFn> kEntries[] = {
#define LR_SCHEDULE(name, doc, params, fn) {#name, doc, params, fn},
#include "optim/lr_schedules.def"
#undef LR_SCHEDULE
  };
  return kEntries;
}

StatusOr<LrSchedule> LrSchedule::Create(absl::string_view name, const ParamMap& params,
                                        double peak_learning_rate, int64_t num_steps) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("lr_schedule", LrSchedules(), name));
  LrSchedule schedule;
  ASSIGN_OR_RETURN(schedule.params_, Params::Create(entry->name, entry->params, params));
  schedule.fn_ = entry->factory;
  schedule.peak_ = peak_learning_rate;
  schedule.num_steps_ = num_steps;
  return schedule;
}

}  // namespace trireme
