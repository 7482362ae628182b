// The trainer: a model, its data and its update on one rank of a world, one step at a time. The loop around it
// is train.h; tests and benchmarks use the trainer as it is.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/device/device.h"
#include "core/module/model.h"
#include "data/dataset.h"
#include "data/prefetch.h"
#include "launch/phase_timer.h"
#include "launch/run_config.pb.h"
#include "optim/lr_schedules.h"
#include "optim/parameter_update.h"
#include "parallel/comm/communicator.h"
#include "parallel/pipeline/executor.h"
#include "parallel/sync/all_reduce_exchange.h"

namespace trireme {

struct StepReport {
  int64_t step = 0;  // From 1: the number of steps done.
  double loss = 0;   // Mean over the labels of the global batch.
  double grad_norm = 0;
  double learning_rate = 0;
  int64_t num_tokens = 0;  // Labels, over all ranks.
  double flops = 0;        // Of the model, over all ranks: three times the forward pass.
};

struct EvaluationReport {
  LossSum loss;
  std::optional<double> accuracy;  // Of images.

  double mean_loss() const { return loss.sum / static_cast<double>(loss.count); }
  double bits_per_byte() const;  // 0 when the labels stand for no text.
};

class Trainer {
 public:
  // The config is resolved and checked. Everything is allocated here. All of the references outlive this.
  static StatusOr<std::unique_ptr<Trainer>> Create(const RunConfig& config, const Dataset& dataset,
                                                   Communicator& world, Device& device,
                                                   PhaseTimer& phases);

  // One update. ABORTED-like statuses of other ranks, INVALID_ARGUMENT when the loss is not finite (the
  // update is not made).
  StatusOr<StepReport> Step();

  // The mean over the first num_batches batches (0: all) of the validation split, shared by the ranks.
  StatusOr<EvaluationReport> Evaluate(int64_t num_batches);

  int64_t step() const { return step_; }
  // Continues from `step` steps done; parameters and states were filled by the caller.
  void Resume(int64_t step);

  Model& model() { return *model_; }
  ParameterUpdate& update() { return *update_; }
  const GradientBuffers& gradients() { return exchange_->sink(0); }

 private:
  Trainer(const RunConfig& config, const Dataset& dataset, Communicator& world, Device& device,
          PhaseTimer& phases)
      : config_(config), dataset_(dataset), world_(world), device_(device), phases_(phases) {}
  Status Init();
  void StartPrefetch();
  StatusOr<Batch> Load(const WorkItem& item);
  StatusOr<std::vector<CompletedJob>> Exchange(absl::Span<const LossSum> losses);

  const RunConfig config_;
  const Dataset& dataset_;
  Communicator& world_;
  Device& device_;
  PhaseTimer& phases_;
  AllReduceOptions batch_options_;
  std::unique_ptr<Model> model_;
  std::optional<ParameterUpdate> update_;
  LrSchedule schedule_;
  std::unique_ptr<AllReduceExchange> exchange_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Prefetcher> prefetcher_;
  int64_t step_ = 0;
};

// "f32", "bf16", "f64".
StatusOr<DType> ComputeDType(absl::string_view name);

}  // namespace trireme
