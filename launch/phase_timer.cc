#include "launch/phase_timer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

namespace trireme {

const char* PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kData:
      return "data";
    case Phase::kForward:
      return "forward";
    case Phase::kBackward:
      return "backward";
    case Phase::kExchangeWait:
      return "exchange wait";
    case Phase::kOptimizer:
      return "optimizer";
    case Phase::kEvaluation:
      return "evaluation";
    case Phase::kCheckpoint:
      return "checkpoint";
    case Phase::kOther:
      return "other";
  }
  return "?";
}

absl::Duration PhaseTimer::total(Phase phase) const {
  if (phase != Phase::kOther) return totals_[static_cast<int>(phase)];
  absl::Duration rest = total();
  for (const absl::Duration spent : totals_) rest -= spent;
  return std::max(rest, absl::ZeroDuration());
}

std::string PhaseTimer::Summary() const {
  std::vector<std::pair<double, Phase>> seconds;
  double whole = 0;
  for (int i = 0; i < kNumPhases; ++i) {
    const Phase phase = static_cast<Phase>(i);
    seconds.emplace_back(absl::ToDoubleSeconds(total(phase)), phase);
    whole += seconds.back().first;
  }
  std::stable_sort(seconds.begin(), seconds.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string text;
  for (const auto& [spent, phase] : seconds) {
    if (spent <= 0) continue;
    absl::StrAppendFormat(&text, "%s%s %.2f s (%.0f %%)", text.empty() ? "" : ", ",
                          PhaseName(phase), spent, 100 * spent / whole);
  }
  return text;
}

}  // namespace trireme
