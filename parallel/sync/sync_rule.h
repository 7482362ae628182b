// When replicas synchronize: pure functions of the clock, so that every rank comes to the same
// periods without a word. A run is cut into rounds; a round of period H is H local steps and then
// an exchange. The rule is asked when a round begins, and its answer holds for the whole round.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/params.h"
#include "core/base/registry.h"
#include "core/base/status.h"

namespace trireme {

// Where a run stands when a round begins. The same on every rank.
struct Clock {
  int64_t step = 0;          // The round's first, from 0: how many are done.
  int64_t num_steps = 0;     // Where the last round ends.
  int64_t warmup_steps = 0;  // Steps before this one have a rising learning rate.
  int64_t round = 0;         // From 0.
  int64_t last_period = 0;   // Of the round before; 0 in the first.
  double learning_rate = 0;  // Of the round's first step.
  double peak_learning_rate = 0;
};

// What the replicas have measured together, for the rules that ask for it.
struct Signals {
  double first_loss = 0;  // Mean training loss over all replicas: of the first round,
  double loss = 0;        // and of the round before this one.
};

class SyncRule {
 public:
  virtual ~SyncRule() = default;

  // The period of the round that begins. Callers take it from NextPeriod.
  virtual int64_t Period(const Clock& clock, const Signals& signals) const = 0;
  virtual bool needs_signals() const { return false; }
};

using SyncRuleFactory = StatusOr<std::unique_ptr<SyncRule>> (*)(const Params& params,
                                                                int64_t num_steps);

// The registry, made from sync_rules.def.
absl::Span<const Entry<SyncRuleFactory>> SyncRules();
// For a run of num_steps steps. INVALID_ARGUMENT for an unknown rule, for parameters that do not
// fit it, and when in such a run it would do nothing of what it is for: exchanges that never come,
// a switch after the end.
StatusOr<std::unique_ptr<SyncRule>> MakeSyncRule(absl::string_view name, const ParamMap& params,
                                                 int64_t num_steps);

// The rule's period within [1, num_steps - step], so that every run ends with an exchange. The only
// place where periods are clamped. The clock's step is less than num_steps.
int64_t NextPeriod(const SyncRule& rule, const Clock& clock, const Signals& signals);

// Longer than any run: the round ends with the run.
inline constexpr int64_t kRestOfTheRun = std::numeric_limits<int64_t>::max();

}  // namespace trireme
