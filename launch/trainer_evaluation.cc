// Trainer: evaluation.
#include <algorithm>
#include <numbers>

#include "core/ops/ops.h"
#include "launch/trainer.h"

namespace trireme {
namespace {

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

// In the middle of a round what is scored is the mean of the replicas: what a run would end with.
StatusOr<EvaluationReport> Trainer::Evaluate(int64_t num_batches) {
  const PhaseScope scope(phases_, Phase::kEvaluation);
  if (exchanges_->in_agreement()) return EvaluateParameters(num_batches);
  std::vector<Tensor> slices;
  for (const auto& parameter : model_->parameters().parameters()) {
    if (!parameter->spec.frozen) slices.push_back(parameter->owned);
  }
  const int replicas = mesh_->replica().size();
  RoundEnd end;
  end.weights.assign(replicas, 1.0 / replicas);
  const std::unique_ptr<RoundExchange> mean =
      MakeDirectMean(mesh_->replica(), device_, slices, "evaluation");
  return EvaluateInstead(num_batches, [&]() -> Status {
    RETURN_IF_ERROR(mean->Send(end));
    return mean->Apply(end);
  });
}

StatusOr<std::optional<EvaluationReport>> Trainer::EvaluatePersonal(int64_t num_batches) {
  const PhaseScope scope(phases_, Phase::kEvaluation);
  const absl::Span<const Tensor> personal = local_step_->personal();
  std::optional<EvaluationReport> report;
  if (personal.empty()) return report;
  ASSIGN_OR_RETURN(report, EvaluateInstead(num_batches, [&] {
                     return CatchFailure([&] {
                       for (size_t i = 0; i < personal.size(); ++i) {
                         if (!personal[i].defined()) continue;
                         model_->parameters().parameters()[i]->owned.CopyFrom(personal[i]);
                       }
                     });
                   }));
  return report;
}

// Scores what `replace` puts into the owned slices, which are themselves again afterwards.
StatusOr<EvaluationReport> Trainer::EvaluateInstead(int64_t num_batches,
                                                    const std::function<Status()>& replace) {
  OwnedCopies own;
  RETURN_IF_ERROR(CatchFailure([&] {
    own.Allocate(model_->parameters(), MemoryKind::kCommunication, "replica's parameters");
  }));
  RETURN_IF_ERROR(replace());
  RETURN_IF_ERROR(RefreshParameters());
  StatusOr<EvaluationReport> report = EvaluateParameters(num_batches);
  RETURN_IF_ERROR(CatchFailure([&] { own.CopyToOwned(model_->parameters()); }));
  RETURN_IF_ERROR(RefreshParameters());
  return report;
}

StatusOr<EvaluationReport> Trainer::EvaluateParameters(int64_t num_batches) {
  const int64_t batch_size = config_.batch().global_batch_size();
  int64_t num_samples = dataset_.num_samples(Split::kValidation);
  if (num_batches > 0) num_samples = std::min(num_samples, num_batches * batch_size);
  AllReduceOptions options = batch_options_;
  options.global_batch_size = num_samples;
  if (options.micro_batch_size == 0) {
    options.micro_batch_size = std::max<int64_t>(1, batch_size / mesh_->num_shares());
  }
  std::vector<WorkItem> items = MicroBatches(options, mesh_->share(), mesh_->num_shares(), 0);
  // Ranks that gather parameters from each other do so as often: the first share has the most.
  if (config_.mesh().zero_stage() == 3) {
    items.resize(MicroBatches(options, 0, mesh_->num_shares(), 0).size());
  }

  const auto load = [&](const WorkItem& item) -> StatusOr<Batch> {
    std::vector<SampleRef> samples;
    for (const int64_t i : item.samples) samples.push_back({i, i});
    return Fill(Split::kValidation, samples);
  };
  LossSum sum;
  int64_t correct = 0;
  const auto score = [&](const Tensor& hidden, const Batch& batch, const ForwardContext& context) {
    const Tensor loss = model_->RunUnit(model_->num_units() - 1, hidden, batch, context);
    sum.Add({loss.Item(), batch.num_targets, batch.num_bytes});
    if (dataset_.has_accuracy()) {
      correct += CountCorrect(model_->Logits(hidden, batch, context), batch.labels);
    }
  };
  RETURN_IF_ERROR(executor_->Evaluate(items, load, {}, score));
  double sums[] = {sum.sum, static_cast<double>(sum.count), static_cast<double>(sum.bytes),
                   static_cast<double>(correct)};
  RETURN_IF_ERROR(SumOver(mesh_->inside().losses, device_, "evaluation", absl::MakeSpan(sums)));
  RETURN_IF_ERROR(SumOver(&mesh_->replica(), device_, "evaluation", absl::MakeSpan(sums)));
  EvaluationReport report;
  report.loss = {sums[0], static_cast<int64_t>(sums[1]), static_cast<int64_t>(sums[2])};
  if (report.loss.count == 0) {
    return absl::FailedPreconditionError("the validation split has no label to predict");
  }
  if (dataset_.has_accuracy()) report.accuracy = sums[3] / sums[1];
  return report;
}

}  // namespace trireme
