#include "parallel/coding/stop_rule.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace trireme {

std::string StopRule::ToString() const {
  if (kind == StopKind::kAll) return "all";
  return absl::StrCat(kind == StopKind::kModel ? "model" : "look_ahead", ", mu ", mu);
}

int RobustReference(int num_workers) {
  return num_workers < 3 ? 1 : std::max(2, (num_workers + 9) / 10);
}

Foresight::Foresight(const GradientCode& code)
    : code_(code), later_(code.shape()), messages_(code.shape().num_workers) {}

bool Foresight::Feasible(const History& history) {
  const int delay = code_.shape().delay;
  const int64_t round = history.round();
  const auto decodes = [&](const History& at, int64_t job) {
    return !at.IsOpen(job) || code_.Decodes(at.arrived(job));
  };
  if (!decodes(history, round - delay)) return false;
  if (delay == 0) return true;
  later_ = history;
  for (int later = 1; later <= delay; ++later) {
    later_.NextRound();
    for (int age = later; age <= delay; ++age) {  // Jobs that are open now.
      const int64_t job = round + later - age;
      if (!later_.IsOpen(job)) continue;
      code_.Assign(later_, age, absl::MakeSpan(messages_));
      for (size_t worker = 0; worker < messages_.size(); ++worker) {
        if (messages_[worker] >= 0) {
          later_.Arrive(job, static_cast<int>(worker), messages_[worker]);
        }
      }
    }
    if (!decodes(later_, round + later - delay)) return false;
  }
  return true;
}

}  // namespace trireme
