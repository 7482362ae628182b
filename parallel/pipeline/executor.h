// The executor runs the work items of a round: this rank's part of the forward and backward of
// each, in the order of a pipeline plan, into the sinks of an exchange. It alone starts reductions,
// gathers sharded parameters and talks along the pipeline.
//
// It runs a model unit by unit, each with a graph of its own: what a unit of a micro-batch needs
// for backward is one UnitPass, and every action of a plan is a loop over units.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"

#include "core/autograd/backward.h"
#include "core/autograd/graph_cut.h"
#include "core/base/status.h"
#include "core/module/model.h"
#include "parallel/comm/communicator.h"
#include "parallel/pipeline/lower.h"
#include "parallel/shard/sharded_parameters.h"
#include "parallel/sync/gradient_exchange.h"

namespace trireme {

struct ExecutorOptions {
  bool recompute = false;  // Keep only the inputs of units, and run them again in backward.
};

// How a model is cut along the pipeline. Alone: one stage of all units.
struct PipelineOptions {
  Communicator* pipeline = nullptr;
  std::string schedule = "1f1b";
  ParamMap schedule_params;
  std::vector<int> units_of_stage;  // How many units each stage has, in the order of the model.
};

struct RoundReport {
  std::vector<LossSum> losses;  // By sink; of the last stage.
  absl::Duration load, forward, backward, wait;
};

class Executor {
 public:
  // `sharding`: nullptr when working copies are always there. The references outlive this.
  Executor(Model& model, const ExecutorOptions& options, PipelineOptions pipeline = {},
           ShardedParameters* sharding = nullptr);

  // Loads the batch of an item. Called once an item, in order.
  using LoadFn = std::function<StatusOr<Batch>(const WorkItem& item)>;

  // `context` gives all but the layout, which comes with each batch. Failures end the round as a
  // Status.
  StatusOr<RoundReport> Run(absl::Span<const WorkItem> items, const LoadFn& load,
                            const ForwardContext& context, GradientExchange& exchange);

  // Sees the output of each unit that is computed, but for the last; nullptr: none does.
  using ProbeFn = std::function<void(int unit, const Tensor& output, const Batch&)>;
  void set_probe(ProbeFn probe) { probe_ = std::move(probe); }

  // Runs all units but the last, without gradients, and gives what enters the last one to `score`
  // where it runs.
  using ScoreFn = std::function<void(const Tensor& hidden, const Batch&, const ForwardContext&)>;
  Status Evaluate(absl::Span<const WorkItem> items, const LoadFn& load,
                  const ForwardContext& context, const ScoreFn& score);

 private:
  class Round;
  // A stage's first unit, and the one after its last.
  struct UnitRange {
    int begin, end;
  };

  int rank() const;
  int num_ranks() const;
  int num_stages() const { return static_cast<int>(stages_.size()); }
  StatusOr<const LoweredPlan*> PlanFor(int num_items);

  Model& model_;
  const ExecutorOptions options_;
  const PipelineOptions pipeline_;
  ShardedParameters* const sharding_;
  std::vector<UnitRange> stages_;
  ProbeFn probe_;
  std::map<int, LoweredPlan> plans_;  // By the number of items.
};

// The units of each stage when nothing else is asked for: as even as they go.
std::vector<int> EvenStages(int num_units, int num_stages);

}  // namespace trireme
