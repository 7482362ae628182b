// The trainer: a model, its data and its update on one rank of a world, one step at a time. The
// loop around it is train.h; tests and benchmarks use the trainer as it is.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/device/device.h"
#include "data/dataset.h"
#include "data/prefetch.h"
#include "launch/local_step.h"
#include "launch/phase_timer.h"
#include "launch/run_config.pb.h"
#include "models/models.h"
#include "optim/lr_schedules.h"
#include "optim/parameter_update.h"
#include "parallel/comm/communicator.h"
#include "parallel/pipeline/executor.h"
#include "parallel/shard/model_mesh.h"
#include "parallel/sync/all_reduce_exchange.h"
#include "parallel/sync/exchanges.h"

namespace trireme {

struct StepReport {
  int64_t step = 0;  // From 1: the number of steps done.
  double loss = 0;  // Mean over the labels of the global batch; in a local round, of the replica's.
  double grad_norm = 0;
  double learning_rate = 0;
  int64_t num_tokens = 0;  // Labels, over all ranks.
  double flops = 0;        // Of the model, over all ranks: three times the forward pass.
};

struct EvaluationReport {
  LossSum loss;
  std::optional<double> accuracy;  // Where labels are answers.

  double mean_loss() const { return loss.sum / static_cast<double>(loss.count); }
  double bits_per_byte() const;  // 0 when the labels stand for no text.
};

// Declares a model in place of the config's.
using ModelBuilder = std::function<StatusOr<std::unique_ptr<Model>>(const DataShape& data,
                                                                    const ModelLayout& layout)>;

class Trainer {
 public:
  // The config is resolved and checked; `world` has the ranks of its mesh. Everything is allocated
  // here. All of the references outlive this.
  static StatusOr<std::unique_ptr<Trainer>> Create(const RunConfig& config, const Dataset& dataset,
                                                   Communicator& world, Device& device,
                                                   PhaseTimer& phases,
                                                   const ModelBuilder& model = nullptr);

  // One update. ABORTED-like statuses of other ranks, INVALID_ARGUMENT when the loss is not finite
  // (the update is not made).
  StatusOr<StepReport> Step();

  // Of the owned slices, after a step.
  const UnitTensors& gradients() { return exchange_->gradients(); }
  const ModelMesh& mesh() const { return *mesh_; }
  // As ScanChoiceInWords (scan_choice.h) has it, of this rank's micro-batches.
  std::string ScanChoice() const;
  Exchanges& exchanges() { return *exchanges_; }
  const Exchanges& exchanges() const { return *exchanges_; }

  // The mean over the first num_batches batches (0: all) of the validation split, shared by the
  // ranks.
  StatusOr<EvaluationReport> Evaluate(int64_t num_batches);
  // The same of personal models, each replica's on its share; nullopt when the local step has none.
  StatusOr<std::optional<EvaluationReport>> EvaluatePersonal(int64_t num_batches);

  int64_t step() const { return step_; }
  // Continues from `step` steps done; owned slices and states were filled by the caller.
  Status Resume(int64_t step);

  Model& model() { return *model_; }
  ParameterUpdate& update() { return *update_; }
  LocalStep& local_step() { return *local_step_; }
  Executor& executor() { return *executor_; }

 private:
  Trainer(const RunConfig& config, const Dataset& dataset, Communicator& world, Device& device,
          PhaseTimer& phases)
      : config_(config), dataset_(dataset), world_(world), device_(device), phases_(phases) {}
  Status Init(const ModelBuilder& model);
  Status MakeExchanges();
  Status MakeSequenceAxis();
  Status CheckKernels() const;
  Status MakeModelOf(const DataShape& data, const ModelBuilder& builder);
  StatusOr<PipelineOptions> CutIntoStages(const PipelineShape& pipeline);
  Status MakeLocalStepOf();
  void StartPrefetch();
  // What a local step asks for; `kept` has the batches of this step that may be asked for again.
  struct KeptBatch {
    std::vector<Batch> items;
    double flops = 0;
  };
  StatusOr<std::vector<CompletedJob>> Gradients(int batch, bool plain, KeptBatch* kept,
                                                double* flops);
  StatusOr<Batch> Load(const WorkItem& item, double* flops);
  StatusOr<std::vector<CompletedJob>> Exchange(absl::Span<const LossSum> losses);
  Status Apply(const CompletedJob& job, StepReport* report);
  StatusOr<Batch> Fill(Split split, absl::Span<const SampleRef> samples);
  Status RefreshParameters();
  StatusOr<EvaluationReport> EvaluateInstead(int64_t num_batches,
                                             const std::function<Status()>& replace);
  StatusOr<EvaluationReport> EvaluateParameters(int64_t num_batches);
  StatusOr<std::string> FindNonFinite(const UnitTensors& gradients);

  const RunConfig config_;
  const Dataset& dataset_;
  Communicator& world_;
  Device& device_;
  PhaseTimer& phases_;
  AllReduceOptions batch_options_;
  std::unique_ptr<ModelMesh> mesh_;
  std::shared_ptr<const SequenceAxis> sequence_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ShardedParameters> sharding_;
  std::optional<ParameterUpdate> update_;
  LrSchedule schedule_;
  std::unique_ptr<LocalStep> local_step_;
  std::unique_ptr<AllReduceExchange> exchange_;
  std::unique_ptr<Exchanges> exchanges_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Prefetcher> prefetcher_;
  int64_t step_ = 0;
};

// What a resolved config asks for: the mesh; where pipeline stages are; how many of a model's units
// each has.
StatusOr<Mesh> MeshOf(const RunConfig& config, int world_size);
StatusOr<PipelineShape> PipelineShapeOf(const RunConfig& config);
StatusOr<std::vector<int>> UnitsOfStages(absl::string_view text, int num_units, int num_stages);

// INVALID_ARGUMENT when the data cannot be cut over the sequence axis.
Status CheckSequenceAxis(const RunConfig& config, bool is_text);
DataShape DataShapeOf(const Dataset& dataset);

// "f32", "bf16", "f64".
StatusOr<DType> ComputeDType(absl::string_view name);

}  // namespace trireme
