#include "parallel/sync/exchanges.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"

namespace trireme {
namespace {

Status AtRow(int row, const Status& status) {
  return Status(status.code(), absl::StrCat("exchanges.", row, ": ", status.message()));
}

// The weights of an exchange, adding up to one.
std::vector<double> WeightsOf(const ExchangeSpec& spec, absl::Span<const LossSum> losses) {
  std::vector<double> weights(losses.size(), 1.0);
  for (size_t k = 0; k < losses.size(); ++k) {
    if (spec.token_weights) weights[k] = static_cast<double>(losses[k].count);
    if (!spec.weights.empty()) weights[k] = spec.weights[k];
  }
  double sum = 0;
  for (const double weight : weights) sum += weight;
  for (double& weight : weights) weight = sum > 0 ? weight / sum : 1.0 / weights.size();
  return weights;
}

double MeanLoss(absl::Span<const LossSum> losses) {
  LossSum total;
  for (const LossSum& loss : losses) total.Add(loss);
  return total.count == 0 ? 0 : total.sum / static_cast<double>(total.count);
}

}  // namespace

StatusOr<std::unique_ptr<Exchanges>> Exchanges::Create(std::vector<ExchangeSpec> rows,
                                                       const ExchangesContext& context) {
  std::unique_ptr<Exchanges> exchanges(new Exchanges(std::move(rows), context));
  for (int row = 0; row < static_cast<int>(exchanges->rows_.size()); ++row) {
    const Status added = exchanges->AddRounds(row);
    if (!added.ok()) return AtRow(row, added);
  }
  return exchanges;
}

Status Exchanges::AddRounds(int row) {
  const ExchangeSpec& spec = rows_[row];
  const std::vector<std::string> paths = context_.parameters.Paths();
  const std::vector<bool> mine = ParametersOf(rows_, row, paths);
  if (std::find(mine.begin(), mine.end(), true) == mine.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("pattern '", spec.pattern, "' has no parameter left to match"));
  }
  if (spec.is_of_gradients()) return absl::OkStatus();
  RunTimes times = context_.times;
  times.first_step = spec.from_step;
  times.num_steps = std::min(times.num_steps, spec.until_step);
  if (times.first_step >= times.num_steps) return absl::OkStatus();  // It begins after the run.

  Round round;
  round.spec = &spec;
  std::vector<Tensor> slices;
  const auto& parameters = context_.parameters.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const ParamSpec& parameter = parameters[i]->spec;
    const auto place = std::find(paths.begin(), paths.end(), parameter.path);
    if (parameter.frozen || !mine[place - paths.begin()]) continue;
    const Tensor slice =
        spec.state.empty() ? parameters[i]->owned : context_.optimizer_state(i, spec.state);
    if (!slice.defined()) {
      return absl::InvalidArgumentError(
          absl::StrCat("state: the optimizer of ", parameter.path, " has no '", spec.state, "'"));
    }
    round.parameters.push_back(static_cast<int>(i));
    slices.push_back(slice);
  }
  ASSIGN_OR_RETURN(round.rule, MakeSyncRule(spec.rule.name, spec.rule.params, times.num_steps));
  round.clock = std::make_unique<RoundClock>(*round.rule, times);
  RETURN_IF_ERROR(CatchFailure([&] {
    round.exchange = MakeDirectMean(context_.replica, context_.device, std::move(slices),
                                    spec.state.empty() ? "parameters" : "optimizer states");
  }));
  rounds_.push_back(std::move(round));
  return absl::OkStatus();
}

bool Exchanges::AddsGradientsUp(int64_t step) const {
  return std::any_of(rows_.begin(), rows_.end(), [&](const ExchangeSpec& spec) {
    return spec.IsPlainGradient() && spec.pattern == "*" && spec.IsActive(step);
  });
}

StatusOr<std::vector<LossSum>> Exchanges::GatherLosses(const LossSum& mine) {
  const int num_replicas = context_.replica.size();
  std::vector<LossSum> losses(num_replicas);
  RETURN_IF_ERROR(CatchFailure([&] {
    const double numbers[] = {mine.sum, static_cast<double>(mine.count),
                              static_cast<double>(mine.bytes)};
    const Tensor input = Tensor::FromHost<double>(context_.device, {3}, numbers);
    const Tensor output = Tensor::Empty(context_.device, {3 * num_replicas}, DType::kF64);
    context_.replica.AllGather(input, output, {.purpose = "loss"})->Join(context_.device.compute());
    const std::vector<double> all = output.ToVector();
    for (int k = 0; k < num_replicas; ++k) {
      losses[k] = {all[3 * k], static_cast<int64_t>(all[3 * k + 1]),
                   static_cast<int64_t>(all[3 * k + 2])};
    }
  }));
  return losses;
}

StatusOr<bool> Exchanges::AfterUpdate(int64_t steps_done, const LossSum& loss) {
  if (!AddsGradientsUp(steps_done - 1)) in_agreement_ = context_.replica.size() == 1;
  bool changed = false;
  for (Round& round : rounds_) {
    if (!round.spec->IsActive(steps_done - 1)) continue;
    round.loss.Add(loss);
    if (!round.clock->IsDue(steps_done)) continue;
    RETURN_IF_ERROR(EndRound(round, steps_done));
    changed = true;
  }
  return changed;
}

Status Exchanges::EndRound(Round& round, int64_t steps_done) {
  ASSIGN_OR_RETURN(const std::vector<LossSum> losses, GatherLosses(round.loss));
  round.sent = {round.clock->round(), WeightsOf(*round.spec, losses), round.clock->learning_rate(),
                round.clock->LearningRateSum(), round.clock->IsLast(steps_done)};
  RETURN_IF_ERROR(round.exchange->Send(round.sent));
  RETURN_IF_ERROR(round.exchange->Apply(round.sent));
  if (round.exchange->makes_equal() && round.spec->state.empty()) in_agreement_ = true;
  round.clock->BeginNext(MeanLoss(losses));
  round.loss = {};
  return absl::OkStatus();
}

}  // namespace trireme
