#include "launch/trainer.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/ops.h"
#include "data/sampler.h"
#include "launch/config.h"
#include "launch/exchange_config.h"
#include "launch/non_finite.h"
#include "launch/scan_choice.h"
#include "launch/trained_parameters.h"
#include "models/models.h"
#include "optim/clip.h"
#include "parallel/comm/local.h"
#include "parallel/shard/declaration_checks.h"

namespace trireme {
namespace {

constexpr int kPrefetchedBatches = 2;

StatusOr<std::vector<UpdateGroup>> MakeGroups(const RunConfig& config) {
  std::vector<UpdateGroup> groups;
  const auto add = [&](const std::string& pattern, const Component& component, double lr_scale,
                       bool decay) -> Status {
    const ComponentConfig optimizer = ToComponentConfig(component);
    ASSIGN_OR_RETURN(std::shared_ptr<const Optimizer> rule,
                     MakeOptimizer(optimizer.name, optimizer.params));
    groups.push_back({pattern, std::move(rule), lr_scale, decay});
    return absl::OkStatus();
  };
  for (const RunConfig::ParameterGroup& group : config.groups()) {
    RETURN_IF_ERROR(
        add(group.pattern(), group.has_optimizer() ? group.optimizer() : config.optimizer(),
            group.has_lr_scale() ? group.lr_scale() : 1, group.has_decay() ? group.decay() : true));
  }
  const bool all_named = !groups.empty() && groups.back().pattern == "*";
  if (!all_named) RETURN_IF_ERROR(add("*", config.optimizer(), 1, true));
  return groups;
}

}  // namespace

StatusOr<Mesh> MeshOf(const RunConfig& config, int world_size) {
  const RunConfig::Mesh& axes = config.mesh();
  AxisArray sizes;
  const int64_t given[] = {axes.replica(), axes.pipeline(), axes.shard(), axes.sequence(),
                           axes.tensor()};
  for (int i = 0; i < kNumAxes; ++i) sizes[i] = static_cast<int>(given[i]);
  return Mesh::Create(sizes, world_size);
}

StatusOr<PipelineShape> PipelineShapeOf(const RunConfig& config) {
  const ComponentConfig schedule = ToComponentConfig(config.pipeline_schedule());
  const int64_t share =
      config.batch().global_batch_size() / (config.mesh().replica() * config.mesh().shard());
  const int64_t micro = config.batch().micro_batch_size();
  const int64_t num_items = micro > 0 ? (share + micro - 1) / micro : 1;
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(schedule.name, config.mesh().pipeline(),
                                             std::max<int64_t>(1, num_items), schedule.params));
  return PipelineShape(plan);
}

StatusOr<std::vector<int>> UnitsOfStages(absl::string_view text, int num_units, int num_stages) {
  if (num_stages > num_units) {
    return absl::InvalidArgumentError(
        absl::StrCat("a model of ", num_units, " units has no ", num_stages, " pipeline stages"));
  }
  if (text.empty()) return EvenStages(num_units, num_stages);
  std::vector<int> units;
  int64_t sum = 0;
  for (const absl::string_view piece : absl::StrSplit(text, ',')) {
    int64_t count = 0;
    if (!ParseInt(piece, &count) || count < 1 || count > num_units) {
      return absl::InvalidArgumentError(
          absl::StrCat("mesh.units_of_stage: '", piece, "' is no number of units"));
    }
    units.push_back(static_cast<int>(count));
    sum += count;
  }
  if (static_cast<int>(units.size()) != num_stages || sum != num_units) {
    return absl::InvalidArgumentError(absl::StrCat(
        "mesh.units_of_stage: ", units.size(), " stages of ", sum, " units; the pipeline has ",
        num_stages, " stages, the model ", num_units, " units"));
  }
  return units;
}

Status CheckSequenceAxis(const RunConfig& config, bool is_text) {
  const int size = static_cast<int>(config.mesh().sequence());
  if (is_text) return CheckSequenceLength(config.data().sequence_length(), size);
  if (size == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("mesh sequence=", size, ": images are not cut over the sequence axis"));
}

DataShape DataShapeOf(const Dataset& dataset) {
  if (dataset.is_text()) return {.vocab_size = dataset.num_classes()};
  return {.num_features = dataset.feature_shape().numel(), .num_classes = dataset.num_classes()};
}

StatusOr<DType> ComputeDType(absl::string_view name) {
  if (name == "f32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "f64") return DType::kF64;
  return absl::InvalidArgumentError(absl::StrCat("dtype '", name, "' is not f32, bf16 or f64"));
}

StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const RunConfig& config, const Dataset& dataset,
                                                   Communicator& world, Device& device,
                                                   PhaseTimer& phases, const ModelBuilder& model) {
  std::unique_ptr<Trainer> trainer(new Trainer(config, dataset, world, device, phases));
  RETURN_IF_ERROR(trainer->Init(model));
  return trainer;
}

Status Trainer::Init(const ModelBuilder& builder) {
  const DataShape shape = DataShapeOf(dataset_);
  const RunConfig::Mesh& axes = config_.mesh();
  ASSIGN_OR_RETURN(const Mesh mesh, MeshOf(config_, world_.size()));
  ASSIGN_OR_RETURN(const PipelineShape pipeline, PipelineShapeOf(config_));
  ASSIGN_OR_RETURN(
      mesh_, ModelMesh::Create(world_, mesh,
                               {pipeline.rank_of_stage.front(), pipeline.rank_of_stage.back()}));
  RETURN_IF_ERROR(MakeSequenceAxis());
  RETURN_IF_ERROR(MakeModelOf(shape, builder));
  RETURN_IF_ERROR(CheckKernels());
  ASSIGN_OR_RETURN(PipelineOptions stages, CutIntoStages(pipeline));
  ASSIGN_OR_RETURN(const DType dtype, ComputeDType(config_.dtype()));
  ASSIGN_OR_RETURN(std::vector<UpdateGroup> groups, MakeGroups(config_));
  const ComponentConfig schedule = ToComponentConfig(config_.lr_schedule());
  ASSIGN_OR_RETURN(schedule_, LrSchedule::Create(schedule.name, schedule.params,
                                                 config_.learning_rate(), config_.num_steps()));

  const int zero_stage = static_cast<int>(axes.zero_stage());
  const ReplicaGroups inside = mesh_->inside();
  ParameterSet& parameters = model_->parameters();
  RETURN_IF_ERROR(
      parameters.Materialize(device_, dtype, config_.seed(), inside.ownership(zero_stage == 3)));
  sharding_ = std::make_unique<ShardedParameters>(parameters, inside.owners, zero_stage == 3);
  RETURN_IF_ERROR(sharding_->Refresh());
  ASSIGN_OR_RETURN(update_, ParameterUpdate::Create(parameters, std::move(groups)));
  RETURN_IF_ERROR(MakeLocalStepOf());
  batch_options_ = {config_.batch().global_batch_size() / local_step_->num_batches(),
                    config_.batch().micro_batch_size(), config_.bucket_bytes(), zero_stage};
  executor_ = std::make_unique<Executor>(*model_, ExecutorOptions{config_.recompute()},
                                         std::move(stages), sharding_.get());
  RETURN_IF_ERROR(CatchFailure([&] {
    exchange_ =
        std::make_unique<AllReduceExchange>(parameters, device_, mesh_->replica(), inside,
                                            mesh_->share(), mesh_->num_shares(), batch_options_);
  }));
  return MakeExchanges();
}

Status Trainer::MakeExchanges() {
  ASSIGN_OR_RETURN(std::vector<ExchangeSpec> rows, ExchangesOf(config_));
  RunTimes times;
  times.num_steps = config_.num_steps();
  times.warmup_steps = schedule_.warmup_steps();
  times.peak_learning_rate = config_.learning_rate();
  times.learning_rate = [this](int64_t step) { return schedule_.LearningRate(step); };
  const auto state = [this](int parameter, const std::string& name) {
    const Parameter* wanted = model_->parameters().parameters()[parameter].get();
    for (const ParameterUpdate::State& state : update_->States()) {
      if (state.parameter == wanted && state.name == name) return state.value;
    }
    return Tensor();
  };
  ASSIGN_OR_RETURN(
      exchanges_,
      Exchanges::Create(std::move(rows),
                        {model_->parameters(), device_, mesh_->replica(), mesh_->Over(kSliceAxes),
                         mesh_->inside().whole, mesh_->Coordinate(Axis::kTensor),
                         static_cast<uint64_t>(config_.seed()), times, state}));
  return absl::OkStatus();
}

Status Trainer::MakeLocalStepOf() {
  const ComponentConfig local = ToComponentConfig(config_.local_step());
  ASSIGN_OR_RETURN(local_step_, MakeLocalStep(local.name, local.params));
  return CatchFailure([&] { local_step_->Start(model_->parameters()); });
}

// The model as every rank of the tensor axis declares it, and this rank's kept.
Status Trainer::MakeModelOf(const DataShape& data, const ModelBuilder& builder) {
  const TensorAxis mine = mesh_->tensor(config_.mesh().sharded_stream());
  std::vector<std::unique_ptr<Model>> models(mine.size);
  std::vector<const ParameterSet*> declared;
  for (int rank = 0; rank < mine.size; ++rank) {
    ModelLayout layout = {mine, sequence_};
    if (rank != mine.rank) layout.tensor = {rank, mine.size, nullptr, mine.sharded_stream};
    if (builder != nullptr) {
      ASSIGN_OR_RETURN(models[rank], builder(data, layout));
    } else {
      ASSIGN_OR_RETURN(models[rank], MakeModel(ToComponentConfig(config_.model()), data, layout));
    }
    RETURN_IF_ERROR(ChooseTrained(config_, models[rank]->parameters()));
    declared.push_back(&models[rank]->parameters());
  }
  model_ = std::move(models[mine.rank]);
  return CheckCut(declared);
}

Status Trainer::CheckKernels() const {
  std::set<std::string> of_model;
  model_->AddKernels(&of_model);
  const std::vector<std::string> missing = MissingKernels(device_.kernels(), of_model);
  if (missing.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(device_.name(), " has no kernel for ",
                                               absl::StrJoin(missing, ", "),
                                               ", which the model needs; use --set device=cpu"));
}

Status Trainer::MakeSequenceAxis() {
  RETURN_IF_ERROR(CheckSequenceAxis(config_, dataset_.is_text()));
  const ComponentConfig method = ToComponentConfig(config_.kv_exchange());
  const ComponentConfig scan = ToComponentConfig(config_.scan());
  ASSIGN_OR_RETURN(
      SequenceAxis axis,
      SequenceAxis::Create(method.name, method.params, mesh_->groups(), {scan.name, scan.params}));
  sequence_ = std::make_shared<const SequenceAxis>(std::move(axis));
  return absl::OkStatus();
}

// Which units are whose, and the parameters of others forgotten.
StatusOr<PipelineOptions> Trainer::CutIntoStages(const PipelineShape& pipeline) {
  PipelineOptions options;
  options.pipeline = mesh_->Over(Axis::kPipeline);
  const ComponentConfig schedule = ToComponentConfig(config_.pipeline_schedule());
  options.schedule = schedule.name;
  options.schedule_params = schedule.params;
  ASSIGN_OR_RETURN(
      options.units_of_stage,
      UnitsOfStages(config_.mesh().units_of_stage(), model_->num_units(), pipeline.num_stages()));
  std::vector<int> rank_of_unit;
  for (int stage = 0; stage < pipeline.num_stages(); ++stage) {
    rank_of_unit.insert(rank_of_unit.end(), options.units_of_stage[stage],
                        pipeline.rank_of_stage[stage]);
  }
  const int rank = mesh_->Coordinate(Axis::kPipeline);
  model_->parameters().KeepUnits([&](int unit) { return rank_of_unit[unit] == rank; });
  return options;
}

Status Trainer::Resume(int64_t step) {
  prefetcher_.reset();
  step_ = step;
  update_->set_step(step);
  return RefreshParameters();
}

// Working copies, after owned slices have changed.
Status Trainer::RefreshParameters() {
  RETURN_IF_ERROR(CatchFailure([&] {
    for (const auto& parameter : model_->parameters().parameters()) {
      if (parameter->working.storage()->resident()) parameter->RefreshWorking();
    }
  }));
  return sharding_->Refresh();
}

std::string Trainer::ScanChoice() const {
  const auto items = MicroBatches(batch_options_, mesh_->share(), mesh_->num_shares(), 0);
  return items.empty() ? ""
                       : ScanChoiceInWords(config_, *model_, *sequence_, items[0].samples.size());
}

void Trainer::StartPrefetch() {
  const int rank = mesh_->share(), size = mesh_->num_shares();
  const int64_t per_batch = MicroBatches(batch_options_, rank, size, 0).size();
  const Sampler sampler(dataset_.num_samples(Split::kTrain), config_.seed());
  const auto make = [this, sampler, rank, size, per_batch](int64_t i) -> StatusOr<HostBatch> {
    const std::vector<WorkItem> items = MicroBatches(batch_options_, rank, size, i / per_batch);
    std::vector<SampleRef> samples;
    for (const int64_t sample : items[i % per_batch].samples) samples.push_back(sampler.At(sample));
    HostBatch batch;
    RETURN_IF_ERROR(dataset_.Fill(Split::kTrain, samples, &batch));
    return batch;
  };
  const int64_t items_of_step = per_batch * local_step_->num_batches();
  prefetcher_ = std::make_unique<Prefetcher>(
      make, step_ * items_of_step, std::max(config_.num_steps(), step_ + 1) * items_of_step,
      kPrefetchedBatches);
}

StatusOr<Batch> Trainer::Load(const WorkItem& item, double* flops) {
  if (prefetcher_ == nullptr) StartPrefetch();
  ASSIGN_OR_RETURN(HostBatch host, prefetcher_->Next());
  CHECK(host.segments.front().sample == item.samples.front()) << "the loader lost its place";
  TokenLayout whole;
  whole.segments = host.segments;
  *flops += 3 * model_->ForwardFlops(whole);
  Batch batch;
  host = sequence_->Cut(std::move(host));
  RETURN_IF_ERROR(CatchFailure([&] { batch = ToDevice(host, device_); }));
  return batch;
}

StatusOr<std::vector<CompletedJob>> Trainer::Exchange(absl::Span<const LossSum> losses) {
  const PhaseScope scope(phases_, Phase::kExchangeWait);
  return exchange_->Finish(losses);
}

StatusOr<StepReport> Trainer::Step() {
  StepReport report;
  double flops = 0;
  std::vector<KeptBatch> kept(local_step_->num_batches());
  const auto gradients = [&](int batch, bool plain) {
    return Gradients(batch, plain, &kept[batch], &flops);
  };
  ASSIGN_OR_RETURN(const std::vector<CompletedJob> jobs,
                   local_step_->Run({model_->parameters(), gradients, [this] {
                                       const PhaseScope scope(phases_, Phase::kOptimizer);
                                       return RefreshParameters();
                                     }}));
  for (const CompletedJob& job : jobs) RETURN_IF_ERROR(Apply(job, &report));
  report.flops = flops * mesh_->num_shares();  // Equal shares, up to one sample.
  report.step = ++step_;
  return report;
}

StatusOr<std::vector<CompletedJob>> Trainer::Gradients(int batch, bool plain, KeptBatch* kept,
                                                       double* flops) {
  ForwardContext context;
  context.step = step_;
  context.training = true;
  context.seed = config_.seed();
  const bool again = !kept->items.empty();
  size_t next = 0;
  const auto load = [&](const WorkItem& item) -> StatusOr<Batch> {
    if (again) return kept->items[next++];
    ASSIGN_OR_RETURN(Batch loaded, Load(item, &kept->flops));
    if (local_step_->repeats_batches()) kept->items.push_back(loaded);
    return loaded;
  };
  exchange_->set_over_replicas(plain && exchanges_->AddsGradientsUp(step_));
  const std::vector<WorkItem> items = exchange_->Plan(step_ * local_step_->num_batches() + batch);
  ASSIGN_OR_RETURN(const RoundReport round, executor_->Run(items, load, context, *exchange_));
  *flops += kept->flops;
  phases_.Add(Phase::kData, round.load);
  phases_.Add(Phase::kForward, round.forward);
  phases_.Add(Phase::kBackward, round.backward);
  phases_.Add(Phase::kExchangeWait, round.wait);
  return Exchange(round.losses);
}

Status Trainer::Apply(const CompletedJob& job, StepReport* report) {
  const PhaseScope scope(phases_, Phase::kOptimizer);
  LossSum loss = job.loss;
  double mean = 1 / static_cast<double>(std::max<int64_t>(1, loss.count));
  const bool has_rows = exchanges_->HasGradientRows(step_);
  if (has_rows) {
    RETURN_IF_ERROR(exchanges_->MeanGradients(step_, *job.gradients, &loss));
    mean = 1;
  }
  // A replica alone may have samples without a label: then its gradient is zero.
  const bool is_of_all = has_rows || exchanges_->AddsGradientsUp(step_);
  if (is_of_all && loss.count == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("step ", step_ + 1, ": the batch has no label to predict"));
  }
  double squares = 0;
  RETURN_IF_ERROR(CatchFailure([&] {
    squares =
        SumOfCountedSquares(model_->parameters(), *job.gradients, mesh_->Coordinate(Axis::kTensor));
  }));
  RETURN_IF_ERROR(SumOver(mesh_->inside().whole, device_, "gradient norm", {&squares, 1}));
  report->loss = loss.sum / static_cast<double>(std::max<int64_t>(1, loss.count));
  report->grad_norm = mean * std::sqrt(squares);
  if (!std::isfinite(report->loss) || !std::isfinite(report->grad_norm)) {
    ASSIGN_OR_RETURN(const std::string first, FindNonFinite(*job.gradients));
    return absl::InvalidArgumentError(
        absl::StrCat("step ", step_ + 1, ": the loss is ", report->loss, " and the gradient norm ",
                     report->grad_norm, "; first not finite: ", first,
                     ". The parameters were left as they were. Try a lower learning_rate, a "
                     "longer warm-up or clip_norm"));
  }
  report->num_tokens = loss.count * (is_of_all ? 1 : mesh_->replica().size());
  report->learning_rate = schedule_.LearningRate(step_);
  RETURN_IF_ERROR(CatchFailure([&] {
    update_->Step(*job.gradients, report->learning_rate,
                  mean * ClipFactor(report->grad_norm, config_.clip_norm()));
  }));
  ASSIGN_OR_RETURN(const bool exchanged, exchanges_->AfterUpdate(step_ + 1, job.loss));
  return exchanged ? RefreshParameters() : sharding_->Refresh();
}

StatusOr<std::string> Trainer::FindNonFinite(const UnitTensors& gradients) {
  ForwardContext context;
  context.step = step_;
  context.training = true;
  context.seed = config_.seed();
  const Sampler sampler(dataset_.num_samples(Split::kTrain), config_.seed());
  const auto load = [&](const WorkItem& item) {
    std::vector<SampleRef> samples;
    for (const int64_t sample : item.samples) samples.push_back(sampler.At(sample));
    return Fill(Split::kTrain, samples);
  };
  // Within a round, the other replicas go on.
  const bool is_of_all = exchanges_->AddsGradientsUp(step_) || exchanges_->HasGradientRows(step_);
  Communicator* who = is_of_all ? &world_ : mesh_->inside().whole;
  std::unique_ptr<Communicator> alone;
  if (who == nullptr) {
    alone = MakeSelfCommunicator();
    who = alone.get();
  }
  const int batches = local_step_->num_batches();
  const std::vector<WorkItem> items = exchange_->Plan(step_ * batches + batches - 1);
  ASSIGN_OR_RETURN(std::string first, FirstNonFinite(*model_, *executor_, items, load, context,
                                                     gradients, *who, device_));
  if (!is_of_all) absl::StrAppend(&first, " of replica ", mesh_->replica().rank());
  return first;
}

// This rank's tokens of the samples.
StatusOr<Batch> Trainer::Fill(Split split, absl::Span<const SampleRef> samples) {
  HostBatch host;
  RETURN_IF_ERROR(dataset_.Fill(split, samples, &host));
  host = sequence_->Cut(std::move(host));
  Batch batch;
  RETURN_IF_ERROR(CatchFailure([&] { batch = ToDevice(host, device_); }));
  return batch;
}

}  // namespace trireme
