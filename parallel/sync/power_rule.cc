// H = max(h_base, floor((alpha / learning rate)^gamma)); within warm-up, h_base.
//
// gamma 2 is the quadratic synchronization rule (Gu, Lyu, Arora, Zhang, Huang: A Quadratic
// Synchronization Rule for Distributed Deep Learning, ICLR 2024), gamma 1 the linear one (Gu et
// al., ICLR 2023). A round that begins within warm-up may run past its end.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "parallel/sync/rule_checks.h"
#include "parallel/sync/sync_rule.h"

namespace trireme {
namespace {

class PowerRule : public SyncRule {
 public:
  PowerRule(double alpha, double gamma, int64_t h_base)
      : alpha_(alpha), gamma_(gamma), h_base_(h_base) {}

  int64_t Period(const Clock& clock, const Signals&) const override {
    if (clock.step < clock.warmup_steps) return h_base_;
    // A learning rate of zero makes it infinite.
    const double period = std::pow(alpha_ / clock.learning_rate, gamma_);
    if (!(period < static_cast<double>(kRestOfTheRun))) return kRestOfTheRun;
    return std::max(h_base_, static_cast<int64_t>(period));
  }

 private:
  const double alpha_, gamma_;
  const int64_t h_base_;
};

Status CheckPositive(absl::string_view key, double value) {
  if (value > 0 && std::isfinite(value)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      key, " is ", value, ", must be positive and finite (for a constant period: every)"));
}

StatusOr<std::unique_ptr<SyncRule>> Make(const Params& params, double gamma, int64_t num_steps) {
  RETURN_IF_ERROR(CheckPositive("alpha", params.Float("alpha")));
  RETURN_IF_ERROR(CheckPositive("gamma", gamma));
  RETURN_IF_ERROR(CheckPeriod(params.Int("h_base"), num_steps));
  return std::make_unique<PowerRule>(params.Float("alpha"), gamma, params.Int("h_base"));
}

}  // namespace

StatusOr<std::unique_ptr<SyncRule>> MakePower(const Params& params, int64_t num_steps) {
  return Make(params, params.Float("gamma"), num_steps);
}
StatusOr<std::unique_ptr<SyncRule>> MakeQsr(const Params& params, int64_t num_steps) {
  return Make(params, 2, num_steps);
}
StatusOr<std::unique_ptr<SyncRule>> MakeLinear(const Params& params, int64_t num_steps) {
  return Make(params, 1, num_steps);
}
StatusOr<std::unique_ptr<SyncRule>> MakeCubic(const Params& params, int64_t num_steps) {
  return Make(params, 3, num_steps);
}

}  // namespace trireme
