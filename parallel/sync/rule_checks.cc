#include "parallel/sync/rule_checks.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "core/base/params.h"

namespace trireme {

Status CheckPeriod(int64_t period, int64_t num_steps) {
  if (period <= num_steps) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a period of ", period, " never comes round in a run of ", num_steps, " steps"));
}

StatusOr<std::vector<int64_t>> ParseSteps(absl::string_view key, absl::string_view text,
                                          int64_t last) {
  const auto refused = [&](const auto&... why) {
    return absl::InvalidArgumentError(absl::StrCat(key, " = \"", text, "\": ", why...));
  };
  std::vector<int64_t> steps;
  for (const absl::string_view item : absl::StrSplit(text, ',')) {
    int64_t step = 0;
    if (!ParseInt(item, &step)) return refused("'", item, "' is not an integer");
    if (step < 1) return refused(step, " is not positive");
    if (!steps.empty() && step <= steps.back()) {
      return refused(step, " after ", steps.back(), " does not ascend");
    }
    if (step > last) return refused(step, " is beyond ", last);
    steps.push_back(step);
  }
  return steps;
}

}  // namespace trireme
