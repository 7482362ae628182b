// The executor runs the work items of a round: forward and backward of each, into its sink.
#pragma once

#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"

#include "core/base/status.h"
#include "core/module/model.h"
#include "parallel/sync/gradient_exchange.h"

namespace trireme {

struct ExecutorOptions {
  bool recompute = false;  // Keep only the inputs of units, and run them again in backward.
};

struct RoundReport {
  std::vector<LossSum> losses;  // By sink.
  absl::Duration load, forward, backward;
};

class Executor {
 public:
  Executor(Model& model, const ExecutorOptions& options) : model_(model), options_(options) {}

  // Loads the batch of an item. Called once an item, in order.
  using LoadFn = std::function<StatusOr<Batch>(const WorkItem& item)>;

  // `context` gives all but the layout, which comes with each batch. Failures end the round as a Status.
  StatusOr<RoundReport> Run(absl::Span<const WorkItem> items, const LoadFn& load,
                            const ForwardContext& context, GradientExchange& exchange);

 private:
  Model& model_;
  const ExecutorOptions options_;
};

}  // namespace trireme
