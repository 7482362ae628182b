// What a rank sends in the exchanges of a whole run between its replicas, from the config alone.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/types/span.h"

#include "core/base/status.h"
#include "core/module/parameter.h"
#include "core/tensor/box.h"
#include "launch/run_config.pb.h"
#include "optim/lr_schedules.h"
#include "parallel/comm/traffic.h"
#include "parallel/mesh/mesh.h"
#include "parallel/sync/exchange_spec.h"

namespace trireme {

struct ExchangeTraffic {
  int row = 0;  // Of the config's exchanges.
  // Absent when the rule depends on the loss.
  std::optional<int64_t> num_exchanges;
  Traffic sent;  // In all of them, or, when their number is not known, in one.
};

class ExchangePlanner {
 public:
  // boxes(i, rank): what rank `rank` owns of parameter i, for the ranks that share a replica's
  // parameters with `rank`. `parameters` are declared, those of the rank's stages.
  using OwnedBoxes = std::function<Box(int parameter, int rank)>;

  // The config is resolved. References outlive this.
  static StatusOr<ExchangePlanner> Create(const RunConfig& config, const Mesh& mesh);

  // In how many steps of the run gradients are plainly added up over the replicas: the row that
  // does so, and its steps.
  struct Added {
    int row = -1;
    int64_t num_steps = 0;
  };
  Added GradientsAddedUp() const;
  bool is_data_parallel() const;  // At every step, and nothing else is exchanged.

  // All others.
  StatusOr<std::vector<ExchangeTraffic>> Plan(int rank, const ParameterSet& parameters,
                                              const OwnedBoxes& boxes) const;

 private:
  ExchangePlanner(const RunConfig& config, const Mesh& mesh) : config_(config), mesh_(mesh) {}

  const RunConfig& config_;
  const Mesh& mesh_;
  std::vector<ExchangeSpec> rows_;
  LrSchedule schedule_;
  DType master_ = DType::kF32;
};

}  // namespace trireme
