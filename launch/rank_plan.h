// What each rank of a run has and sends, from its config alone: nothing is allocated, no rank is
// started.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/exchange_traffic.h"
#include "launch/run_config.pb.h"
#include "launch/trainer.h"
#include "parallel/comm/traffic.h"

namespace trireme {

struct RankPlan {
  std::vector<std::pair<int, int>> stages;  // Units [begin, end) of each of its pipeline stages.
  int64_t working_elements = 0;             // Of parameters: what it computes with,
  int64_t owned_elements = 0;               // and what it updates.
  std::string scan_choice;                  // As ScanChoiceInWords has it.
  // What it sends in a step after the first, as the journal counts; without `exchanges`: those of
  // the whole run between replicas, unless they are data parallelism.
  Traffic step;
  std::vector<ExchangeTraffic> exchanges;
};

// Of all ranks of the mesh, in their order; the config is resolved. INVALID_ARGUMENT as
// Trainer::Create.
StatusOr<std::vector<RankPlan>> PlanRanks(const RunConfig& config, const DataShape& data);

}  // namespace trireme
