#include "parallel/sync/sync_rule.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "parallel/sync/rule_checks.h"

namespace trireme {
namespace {

constexpr ParamInfo kPeriod = {"period", ParamType::kInt, nullptr, "steps of a round", 1};
constexpr ParamInfo kSwitchStep = {"switch_step", ParamType::kInt, nullptr,
                                   "steps with an exchange each", 1};

constexpr ParamInfo kEveryParams[] = {kPeriod};
constexpr ParamInfo kPowerParams[] = {
    {"alpha", ParamType::kFloat, nullptr,
     "growth coefficient: the learning rate at which the formula gives 1", 0},
    {"h_base", ParamType::kInt, nullptr, "the shortest period, and that of warm-up", 1},
    {"gamma", ParamType::kFloat, "2", "exponent", 0},
};
constexpr ParamInfo kFixedPowerParams[] = {kPowerParams[0], kPowerParams[1]};
constexpr ParamInfo kPostLocalParams[] = {kSwitchStep, kPeriod};
constexpr ParamInfo kSwapParams[] = {kSwitchStep};
constexpr ParamInfo kStagewiseParams[] = {
    {"period", ParamType::kInt, nullptr, "steps of a round in the first stage", 1},
    {"growth", ParamType::kFloat, "2", "factor from stage to stage, at least 1; rounded down", 1},
    {"boundaries", ParamType::kString, nullptr,
     "first steps of the other stages, \"1000,3000\"; each stage ends with an exchange"},
};
constexpr ParamInfo kAdaptiveParams[] = {
    {"period", ParamType::kInt, nullptr, "of the first block, the longest", 1},
    {"block_steps", ParamType::kInt, nullptr,
     "a round that begins in another block of so many steps takes a new period", 1},
};
constexpr ParamInfo kListParams[] = {
    {"steps", ParamType::kString, nullptr,
     "how many steps are done at each exchange, \"10,30,70\""},
};

class Every : public SyncRule {
 public:
  explicit Every(int64_t period) : period_(period) {}

  int64_t Period(const Clock&, const Signals&) const override { return period_; }

 private:
  const int64_t period_;
};

}  // namespace

// The others are in files of their own.
#define SYNC_RULE(name, doc, params, factory) \
  StatusOr<std::unique_ptr<SyncRule>> factory(const Params& params, int64_t num_steps);
#include "parallel/sync/sync_rules.def"
#undef SYNC_RULE

absl::Span<const Entry<SyncRuleFactory>> SyncRules() {
  static constexpr Entry<SyncRuleFactory> kEntries[] = {
#define SYNC_RULE(name, doc, params, factory) {#name, doc, params, factory},
#include "parallel/sync/sync_rules.def"
#undef SYNC_RULE
  };
  return kEntries;
}

StatusOr<std::unique_ptr<SyncRule>> MakeEvery(const Params& params, int64_t num_steps) {
  RETURN_IF_ERROR(CheckPeriod(params.Int("period"), num_steps));
  return std::make_unique<Every>(params.Int("period"));
}

StatusOr<std::unique_ptr<SyncRule>> MakeSyncRule(absl::string_view name, const ParamMap& params,
                                                 int64_t num_steps) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("sync_rule", SyncRules(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry->name, entry->params, params));
  StatusOr<std::unique_ptr<SyncRule>> rule = entry->factory(checked, num_steps);
  if (!rule.ok()) return Annotate(rule.status(), name);
  return rule;
}

int64_t NextPeriod(const SyncRule& rule, const Clock& clock, const Signals& signals) {
  CHECK_LT(clock.step, clock.num_steps);
  return std::clamp<int64_t>(rule.Period(clock, signals), 1, clock.num_steps - clock.step);
}

}  // namespace trireme
