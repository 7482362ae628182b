// What a run's exchanges between replicas come to, from its config alone: the rounds of each, and
// what they send beside data parallelism. Nothing is allocated, no rank is started.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "launch/run_config.pb.h"
#include "launch/trainer.h"
#include "parallel/sync/exchange_spec.h"
#include "parallel/sync/sync_schedule.h"

namespace trireme {

// Parameters that are exchanged together.
struct FragmentPlan {
  // Absent when the rule depends on the loss.
  std::optional<SyncSchedule> schedule;
  int64_t num_parameters = 0;  // Elements.
  int64_t sent_bytes = 0;      // In one exchange, by all replicas together.
};

struct ExchangePlan {
  ExchangeSpec spec;
  std::vector<FragmentPlan> fragments;
};

struct SyncPlan {
  int64_t num_steps = 0, warmup_steps = 0;
  int num_replicas = 0;
  int64_t num_parameters = 0;  // Elements that are trained.
  int64_t data_parallel_bytes =
      0;  // What all replicas together send in a step of data parallelism.
  std::vector<ExchangePlan> exchanges;

  // What all exchanges send, over what data parallelism would. Absent when a rule depends on the
  // loss; 0 / 0 of a single replica is 0.
  std::optional<double> share() const;
};

// The config is resolved.
StatusOr<SyncPlan> PlanSync(const RunConfig& config, const DataShape& data);

}  // namespace trireme
