// What factories of sync rules check of their parameters.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/status.h"

namespace trireme {

// INVALID_ARGUMENT when rounds of `period` do not fit into the run once.
Status CheckPeriod(int64_t period, int64_t num_steps);

// "10,30,70" as numbers. INVALID_ARGUMENT, with `key` in front, unless they ascend within
// [1, last].
StatusOr<std::vector<int64_t>> ParseSteps(absl::string_view key, absl::string_view text,
                                          int64_t last);

}  // namespace trireme
