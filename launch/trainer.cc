#include "launch/trainer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/ops/ops.h"
#include "data/sampler.h"
#include "launch/config.h"
#include "models/models.h"
#include "optim/clip.h"

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
    RETURN_IF_ERROR(add(group.pattern(),
                        group.has_optimizer() ? group.optimizer() : config.optimizer(),
                        group.has_lr_scale() ? group.lr_scale() : 1,
                        group.has_decay() ? group.decay() : true));
  }
  RETURN_IF_ERROR(add("*", config.optimizer(), 1, true));
  return groups;
}

int64_t CountCorrect(const Tensor& logits, const Tensor& labels) {
  const std::vector<double> guesses = ArgMax(logits, -1).ToVector(), truths = labels.ToVector();
  int64_t correct = 0;
  for (size_t i = 0; i < truths.size(); ++i) correct += guesses[i] == truths[i];
  return correct;
}

}  // namespace

double EvaluationReport::bits_per_byte() const {
  return loss.bytes == 0 ? 0 : loss.sum / std::numbers::ln2 / static_cast<double>(loss.bytes);
}

StatusOr<DType> ComputeDType(absl::string_view name) {
  if (name == "f32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "f64") return DType::kF64;
  return absl::InvalidArgumentError(absl::StrCat("dtype '", name, "' is not f32, bf16 or f64"));
}

StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const RunConfig& config, const Dataset& dataset,
                                                   Communicator& world, Device& device,
                                                   PhaseTimer& phases) {
  std::unique_ptr<Trainer> trainer(new Trainer(config, dataset, world, device, phases));
  RETURN_IF_ERROR(trainer->Init());
  return trainer;
}

Status Trainer::Init() {
  DataShape shape;
  if (dataset_.is_text()) {
    shape.vocab_size = dataset_.num_classes();
  } else {
    shape.num_features = dataset_.feature_shape().numel();
    shape.num_classes = dataset_.num_classes();
  }
  ASSIGN_OR_RETURN(model_, MakeModel(ToComponentConfig(config_.model()), shape));
  ASSIGN_OR_RETURN(const DType dtype, ComputeDType(config_.dtype()));
  ASSIGN_OR_RETURN(std::vector<UpdateGroup> groups, MakeGroups(config_));
  const ComponentConfig schedule = ToComponentConfig(config_.lr_schedule());
  ASSIGN_OR_RETURN(schedule_, LrSchedule::Create(schedule.name, schedule.params,
                                                 config_.learning_rate(), config_.num_steps()));

  RETURN_IF_ERROR(model_->parameters().Materialize(device_, dtype, config_.seed()));
  ASSIGN_OR_RETURN(update_, ParameterUpdate::Create(model_->parameters(), std::move(groups)));
  batch_options_ = {config_.batch().global_batch_size(), config_.batch().micro_batch_size(),
                    config_.bucket_bytes()};
  executor_ = std::make_unique<Executor>(*model_, ExecutorOptions{config_.recompute()});
  return CatchFailure([&] {
    exchange_ = std::make_unique<AllReduceExchange>(model_->parameters(), device_, world_,
                                                    batch_options_);
  });
}

void Trainer::Resume(int64_t step) {
  prefetcher_.reset();
  step_ = step;
  update_->set_step(step);
}

void Trainer::StartPrefetch() {
  const int rank = world_.rank(), size = world_.size();
  const int64_t per_step = MicroBatches(batch_options_, rank, size, 0).size();
  const Sampler sampler(dataset_.num_samples(Split::kTrain), config_.seed());
  const auto make = [this, sampler, rank, size, per_step](int64_t i) -> StatusOr<HostBatch> {
    const std::vector<WorkItem> items = MicroBatches(batch_options_, rank, size, i / per_step);
    std::vector<SampleRef> samples;
    for (const int64_t sample : items[i % per_step].samples) samples.push_back(sampler.At(sample));
    HostBatch batch;
    RETURN_IF_ERROR(dataset_.Fill(Split::kTrain, samples, &batch));
    return batch;
  };
  prefetcher_ = std::make_unique<Prefetcher>(make, step_ * per_step,
                                             std::max(config_.num_steps(), step_ + 1) * per_step,
                                             kPrefetchedBatches);
}

StatusOr<Batch> Trainer::Load(const WorkItem& item) {
  if (prefetcher_ == nullptr) StartPrefetch();
  ASSIGN_OR_RETURN(const HostBatch host, prefetcher_->Next());
  CHECK(host.segments.front().sample == item.samples.front()) << "the loader lost its place";
  Batch batch;
  RETURN_IF_ERROR(CatchFailure([&] { batch = ToDevice(host, device_); }));
  return batch;
}

StatusOr<std::vector<CompletedJob>> Trainer::Exchange(absl::Span<const LossSum> losses) {
  const PhaseScope scope(phases_, Phase::kExchangeWait);
  return exchange_->Finish(losses);
}

StatusOr<StepReport> Trainer::Step() {
  StepReport report;
  ForwardContext context;
  context.step = step_;
  context.training = true;
  context.seed = config_.seed();
  double flops = 0;
  const auto load = [&](const WorkItem& item) -> StatusOr<Batch> {
    ASSIGN_OR_RETURN(Batch batch, Load(item));
    flops += 3 * model_->ForwardFlops(batch.layout);
    return batch;
  };
  const std::vector<WorkItem> items = exchange_->Plan(step_);
  ASSIGN_OR_RETURN(const RoundReport round, executor_->Run(items, load, context, *exchange_));
  phases_.Add(Phase::kData, round.load);
  phases_.Add(Phase::kForward, round.forward);
  phases_.Add(Phase::kBackward, round.backward);
  ASSIGN_OR_RETURN(const std::vector<CompletedJob> jobs, Exchange(round.losses));
  const PhaseScope scope(phases_, Phase::kOptimizer);
  for (const CompletedJob& job : jobs) {
    if (job.loss.count == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("step ", step_ + 1, ": the batch has no label to predict"));
    }
    const double mean = 1 / static_cast<double>(job.loss.count);
    report.loss = job.loss.sum * mean;
    RETURN_IF_ERROR(CatchFailure(
        [&] { report.grad_norm = mean * std::sqrt(SumOfSquares(job.gradients->All())); }));
    if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
      return absl::InvalidArgumentError(
          absl::StrCat("step ", step_ + 1, ": the loss is ", report.loss, " and the gradient norm ",
                       report.grad_norm, "; the parameters were left as they were. Try a lower "
                       "learning_rate, a longer warm-up or clip_norm"));
    }
    report.num_tokens = job.loss.count;
    report.learning_rate = schedule_.LearningRate(step_);
    update_->Step(*job.gradients, report.learning_rate,
                  mean * ClipFactor(report.grad_norm, config_.clip_norm()));
  }
  report.flops = flops * world_.size();  // Equal shares, up to one sample.
  report.step = ++step_;
  return report;
}

StatusOr<EvaluationReport> Trainer::Evaluate(int64_t num_batches) {
  const PhaseScope scope(phases_, Phase::kEvaluation);
  const NoGrad no_grad;
  const int64_t batch_size = config_.batch().global_batch_size();
  int64_t num_samples = dataset_.num_samples(Split::kValidation);
  if (num_batches > 0) num_samples = std::min(num_samples, num_batches * batch_size);
  const Share share = ShareOf(num_samples, world_.rank(), world_.size());
  const int64_t micro = std::max<int64_t>(
      1, config_.batch().micro_batch_size() > 0 ? config_.batch().micro_batch_size()
                                                : batch_size / world_.size());
  EvaluationReport report;
  int64_t correct = 0;
  for (int64_t first = share.first; first < share.last; first += micro) {
    std::vector<SampleRef> samples;
    for (int64_t i = first; i < std::min(first + micro, share.last); ++i) samples.push_back({i, i});
    HostBatch host;
    RETURN_IF_ERROR(dataset_.Fill(Split::kValidation, samples, &host));
    RETURN_IF_ERROR(CatchFailure([&] {
      const Batch batch = ToDevice(host, device_);
      ForwardContext context;
      context.layout = batch.layout;
      if (dataset_.is_text()) {
        report.loss.Add({ForwardLoss(*model_, batch, context).Item(), batch.num_targets,
                         batch.num_bytes});
      } else {
        const Tensor logits = model_->Logits(batch, context);
        report.loss.Add({CrossEntropy(logits, batch.labels).Item(), batch.num_targets, 0});
        correct += CountCorrect(logits, batch.labels);
      }
    }));
  }
  RETURN_IF_ERROR(CatchFailure([&] {
    const Tensor sums = Tensor::FromVector(
        device_, {4},
        {report.loss.sum, static_cast<double>(report.loss.count),
         static_cast<double>(report.loss.bytes), static_cast<double>(correct)},
        DType::kF64);
    ThrowIfError(world_.AllReduce(sums, {.purpose = "evaluation"})->Wait());
    const std::vector<double> values = sums.ToVector();
    report.loss = {values[0], static_cast<int64_t>(values[1]), static_cast<int64_t>(values[2])};
    correct = static_cast<int64_t>(values[3]);
  }));
  if (report.loss.count == 0) {
    return absl::FailedPreconditionError("the validation split has no label to predict");
  }
  if (!dataset_.is_text()) report.accuracy = static_cast<double>(correct) / report.loss.count;
  return report;
}

}  // namespace trireme
