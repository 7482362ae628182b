// What `trireme code` prints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/coding/delay_model.h"
#include "parallel/coding/gradient_code.h"

namespace trireme {

// Load, redundancy, tolerance, delay, messages, parts, noise amplification, error: lines. Codes
// with a delay are decoded over rounds whose late workers are drawn within their model.
std::string CodeText(const GradientCode& code);

// What every worker does in the first rounds, given who is late when: (round, worker).
// INVALID_ARGUMENT for more workers or rounds than anybody reads.
StatusOr<std::string> AssignmentText(const GradientCode& code, int64_t num_rounds,
                                     const std::vector<std::pair<int64_t, int>>& late);

struct SimulationTable {
  std::string code;  // "": the best of every family.
  ParamMap params;
  int64_t num_workers = 0;  // 0: those of the trace.
  std::string delays;
  ParamMap delay_params;
  std::optional<DelayProfile> trace;  // In place of `delays`.
  int64_t num_jobs = 0;               // 0: as many as the trace has.
  int64_t num_seeds = 1;
  int max_delay = 3;
  double mu = 1;
  bool use_late = false;
};

// One row a scheme and stop rule, with means and deviations over seeds.
StatusOr<std::string> SimulationText(const SimulationTable& table);

}  // namespace trireme
