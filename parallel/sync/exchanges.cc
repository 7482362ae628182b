#include "parallel/sync/exchanges.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "parallel/shard/replica_groups.h"
#include "parallel/sync/host_vector.h"

namespace trireme {
namespace {

Status AtRow(int row, const Status& status) {
  return Status(status.code(), absl::StrCat("exchanges.", row, ": ", status.message()));
}

// The weights of an exchange, adding up to one.
template <typename Report>
std::vector<double> WeightsOf(const ExchangeSpec& spec, const std::vector<Report>& replicas) {
  std::vector<double> weights(replicas.size(), 1.0);
  for (size_t k = 0; k < replicas.size(); ++k) {
    if (spec.token_weights) weights[k] = static_cast<double>(replicas[k].loss.count);
    if (!spec.weights.empty()) weights[k] = spec.weights[k];
  }
  double sum = 0;
  for (const double weight : weights) sum += weight;
  for (double& weight : weights) weight = sum > 0 ? weight / sum : 1.0 / weights.size();
  return weights;
}

template <typename Report>
LossSum TotalLoss(const std::vector<Report>& replicas) {
  LossSum total;
  for (const Report& replica : replicas) total.Add(replica.loss);
  return total;
}

}  // namespace

StatusOr<std::unique_ptr<Exchanges>> Exchanges::Create(std::vector<ExchangeSpec> rows,
                                                       const ExchangesContext& context) {
  std::unique_ptr<Exchanges> exchanges(new Exchanges(std::move(rows), context));
  for (int row = 0; row < static_cast<int>(exchanges->specs_.size()); ++row) {
    const Status added = exchanges->AddRow(row);
    if (!added.ok()) return AtRow(row, added);
  }
  return exchanges;
}

Status Exchanges::AddRow(int index) {
  const ExchangeSpec& spec = specs_[index];
  const std::vector<std::string> paths = context_.parameters.Paths();
  const std::vector<bool> chosen = ParametersOf(specs_, index, paths);
  std::set<std::string> mine;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (chosen[i]) mine.insert(paths[i]);
  }
  if (mine.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("pattern '", spec.pattern, "' has no parameter left to match"));
  }
  auto row = std::make_unique<Row>();
  row->spec = &spec;
  ASSIGN_OR_RETURN(row->codec, MakeCodec(spec.codec.name, spec.codec.params));
  ASSIGN_OR_RETURN(row->mixer, MakeMixer(spec.mixer.name, spec.mixer.params));
  RETURN_IF_ERROR(row->mixer->Check(*row->codec, context_.replica.size()));
  std::vector<int> parameters;
  for (size_t i = 0; i < context_.parameters.parameters().size(); ++i) {
    const ParamSpec& parameter = context_.parameters.parameters()[i]->spec;
    if (parameter.frozen || mine.count(parameter.path) == 0) continue;
    const Status checked = row->codec->Check(parameter.global);
    if (!checked.ok()) {
      return Status(checked.code(), absl::StrCat("codec: ", spec.codec.name, " of ", parameter.path,
                                                 ": ", checked.message()));
    }
    parameters.push_back(static_cast<int>(i));
  }
  if (!spec.is_of_gradients()) {
    RETURN_IF_ERROR(AddRounds(*row, parameters));
  } else if (!AddsAllGradientsUp(specs_, index)) {
    std::vector<Tensor> average;
    if (!spec.state.empty()) {
      ASSIGN_OR_RETURN(average, States(spec.state, parameters));
    }
    ASSIGN_OR_RETURN(BlockedSlices slices, MakeSlices(*row, parameters, {}, "gradients"));
    RETURN_IF_ERROR(CatchFailure([&] {
      row->gradients = std::make_unique<GradientRow>(spec, parameters, std::move(slices),
                                                     std::move(average), context_.device);
    }));
  }
  rows_.push_back(std::move(row));
  return absl::OkStatus();
}

Status Exchanges::AddRounds(Row& row, const std::vector<int>& parameters) {
  const ExchangeSpec& spec = *row.spec;
  RunTimes times = context_.times;
  times.first_step = spec.from_step;
  times.num_steps = std::min(times.num_steps, spec.until_step);
  if (times.first_step >= times.num_steps) return absl::OkStatus();  // It begins after the run.
  ASSIGN_OR_RETURN(row.rule, MakeSyncRule(spec.rule.name, spec.rule.params, times.num_steps));
  for (int64_t fragment = 0; fragment < spec.fragments; ++fragment) {
    std::vector<int> chosen;
    for (const int i : parameters) {
      const int unit = context_.parameters.parameters()[i]->spec.units.front();
      if (unit % spec.fragments == fragment) chosen.push_back(i);
    }
    Round round;
    round.row = &row;
    round.parameters = chosen;
    round.clock = std::make_unique<RoundClock>(*row.rule, times, fragment, spec.fragments);
    ASSIGN_OR_RETURN(round.exchange, MakeRound(row, chosen));
    rounds_.push_back(std::move(round));
  }
  return absl::OkStatus();
}

StatusOr<std::unique_ptr<RoundExchange>> Exchanges::MakeRound(const Row& row,
                                                              const std::vector<int>& chosen) {
  const ExchangeSpec& spec = *row.spec;
  const char* purpose = spec.state.empty() ? ExchangePointName(spec.point) : "optimizer states";
  std::vector<Tensor> slices;
  if (spec.state.empty()) {
    for (const int i : chosen) slices.push_back(context_.parameters.parameters()[i]->owned);
  } else {
    ASSIGN_OR_RETURN(slices, States(spec.state, chosen));
  }
  std::unique_ptr<RoundExchange> exchange;
  if (spec.point == ExchangePoint::kParameters && spec.mixer.name == "all_reduce") {
    RETURN_IF_ERROR(CatchFailure([&] {
      exchange = MakeDirectMean(context_.replica, context_.device, std::move(slices), purpose);
    }));
    return exchange;
  }
  ASSIGN_OR_RETURN(BlockedSlices blocked, MakeSlices(row, chosen, std::move(slices), purpose));
  if (spec.point == ExchangePoint::kParameters) {
    return MakeMixedParameters(context_.replica, std::move(blocked), *row.mixer);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Outer> outer, MakeOuter(spec.outer.name, spec.outer.params));
  const bool exact = row.codec->wire_is_values() && spec.memory == ExchangeMemory::kNone;
  const AnchorOptions options = {spec.keep_local, exact && !outer->needs_anchor()};
  RETURN_IF_ERROR(CatchFailure([&] {
    exchange = MakeAnchoredDifference(context_.replica, context_.device, std::move(blocked),
                                      std::move(outer), options);
  }));
  return exchange;
}

StatusOr<BlockedSlices> Exchanges::MakeSlices(const Row& row, const std::vector<int>& chosen,
                                              std::vector<Tensor> slices, const char* purpose) {
  if (context_.device.name() != "cpu") {
    return absl::UnimplementedError(absl::StrCat(
        context_.device.name(),
        " exchanges gradients and parameters by all_reduce only; use --set device=cpu"));
  }
  const ExchangeSpec& spec = *row.spec;
  BlockedSlices result;
  result.slices = std::move(slices);
  ASSIGN_OR_RETURN(result.blocks,
                   WholeBlocks::Create(context_.parameters, chosen, row.codec->block_size(),
                                       context_.inside, context_.device));
  RETURN_IF_ERROR(CatchFailure([&] {
    result.channel = std::make_unique<Channel>(
        context_.replica, context_.device, MasterType(context_.parameters), result.blocks->pieces(),
        ChannelOptions{*row.codec, *row.mixer, spec.memory, spec.memory_decay, context_.seed,
                       purpose});
  }));
  return result;
}

StatusOr<std::vector<Tensor>> Exchanges::States(const std::string& name,
                                                const std::vector<int>& chosen) {
  std::vector<Tensor> states;
  for (const int i : chosen) {
    states.push_back(context_.optimizer_state(i, name));
    if (states.back().defined()) continue;
    return absl::InvalidArgumentError(absl::StrCat("state: the optimizer of ",
                                                   context_.parameters.parameters()[i]->spec.path,
                                                   " has no '", name, "'"));
  }
  return states;
}

bool Exchanges::AddsGradientsUp(int64_t step) const {
  for (int row = 0; row < static_cast<int>(specs_.size()); ++row) {
    if (specs_[row].IsActive(step) && AddsAllGradientsUp(specs_, row)) return true;
  }
  return false;
}

bool Exchanges::HasGradientRows(int64_t step) const {
  return std::any_of(rows_.begin(), rows_.end(), [&](const std::unique_ptr<Row>& row) {
    return row->gradients != nullptr && row->spec->IsActive(step);
  });
}

Status Exchanges::MeanGradients(int64_t step, const UnitTensors& gradients, LossSum* loss) {
  const double factor = loss->count == 0 ? 0 : 1 / static_cast<double>(loss->count);
  ASSIGN_OR_RETURN(const std::vector<ReplicaReport> replicas, GatherReports(*loss, 0));
  std::vector<bool> exchanged(context_.parameters.parameters().size());
  for (const auto& row : rows_) {
    if (row->gradients == nullptr || !row->spec->IsActive(step)) continue;
    RETURN_IF_ERROR(row->gradients->Send(step, gradients, factor, WeightsOf(*row->spec, replicas)));
    for (const int i : row->gradients->parameters()) exchanged[i] = true;
  }
  for (size_t i = 0; i < exchanged.size(); ++i) {
    const bool frozen = context_.parameters.parameters()[i]->spec.frozen;
    if (!exchanged[i] && !frozen) Scale(gradients.of(i), factor);
  }
  for (const auto& row : rows_) {
    if (row->gradients == nullptr || !row->spec->IsActive(step)) continue;
    RETURN_IF_ERROR(row->gradients->Receive(gradients));
  }
  *loss = TotalLoss(replicas);
  return absl::OkStatus();
}

StatusOr<std::vector<Exchanges::ReplicaReport>> Exchanges::GatherReports(const LossSum& loss,
                                                                         double squares) {
  constexpr int kNumbers = 4;
  const int num_replicas = context_.replica.size();
  std::vector<ReplicaReport> reports(num_replicas);
  RETURN_IF_ERROR(CatchFailure([&] {
    const double mine[kNumbers] = {loss.sum, static_cast<double>(loss.count),
                                   static_cast<double>(loss.bytes), squares};
    const Tensor input = Tensor::FromHost<double>(context_.device, {kNumbers}, mine);
    const Tensor output = Tensor::Empty(context_.device, {kNumbers * num_replicas}, DType::kF64);
    context_.replica.AllGather(input, output, {.purpose = "loss"})->Join(context_.device.compute());
    const std::vector<double> all = output.ToVector();
    for (int k = 0; k < num_replicas; ++k) {
      const double* numbers = &all[kNumbers * k];
      reports[k].loss = {numbers[0], static_cast<int64_t>(numbers[1]),
                         static_cast<int64_t>(numbers[2])};
      reports[k].squares = numbers[3];
    }
  }));
  return reports;
}

// Of this rank's slices, each element of a replica on one of its ranks. Where the host can see
// them.
double Exchanges::SquaresOf(const Round& round) const {
  double sum = 0;
  if (context_.device.name() != "cpu" || !round.row->spec->state.empty()) return sum;
  for (const int i : round.parameters) {
    const Parameter& parameter = *context_.parameters.parameters()[i];
    if (IsCounted(parameter, context_.tensor_rank)) sum += HostSumOfSquares(parameter.owned);
  }
  return sum;
}

StatusOr<bool> Exchanges::AfterUpdate(int64_t steps_done, const LossSum& loss) {
  const std::vector<bool> alike = UpdatesAgree(steps_done - 1);
  steps_done_ = steps_done;
  report_ = {};
  spread_ = squares_ = 0;
  for (size_t i = 0; i < agrees_.size(); ++i) agrees_[i] = agrees_[i] && alike[i];
  bool changed = false;
  bool measured = false;  // The same on all ranks, whichever have parameters of a row.
  for (Round& round : rounds_) {
    const bool active = round.row->spec->IsActive(steps_done - 1);
    if (active) round.loss.Add(loss);
    if (active && round.clock->IsDue(steps_done)) {
      // The end of the run cuts a round shorter than the delay.
      if (round.apply_at != 0) RETURN_IF_ERROR(ApplyRound(round));
      RETURN_IF_ERROR(EndRound(round, steps_done));
    }
    if (round.apply_at == steps_done) {
      RETURN_IF_ERROR(ApplyRound(round));
      changed = true;
      const ExchangeSpec& spec = *round.row->spec;
      measured = measured || (spec.point == ExchangePoint::kParameters && spec.state.empty() &&
                              round.exchange->makes_equal());
    }
  }
  if (measured && context_.device.name() == "cpu") {
    double sums[] = {spread_, squares_};
    RETURN_IF_ERROR(
        SumOver(context_.whole, context_.device, "replica divergence", absl::MakeSpan(sums)));
    if (sums[1] > 0) report_.divergence = std::sqrt(std::max(0.0, sums[0]) / sums[1]);
  }
  return changed;
}

std::vector<bool> Exchanges::UpdatesAgree(int64_t step) const {
  const auto& parameters = context_.parameters.parameters();
  std::vector<bool> alike(parameters.size(), context_.replica.size() == 1 || AddsGradientsUp(step));
  for (size_t i = 0; i < alike.size(); ++i) {
    if (parameters[i]->spec.frozen) alike[i] = true;
  }
  for (const auto& row : rows_) {
    if (row->gradients == nullptr || !row->spec->IsActive(step)) continue;
    for (const int i : row->gradients->parameters()) alike[i] = true;
  }
  return alike;
}

bool Exchanges::in_agreement() const {
  return std::all_of(agrees_.begin(), agrees_.end(), [](bool agrees) { return agrees; });
}

Status Exchanges::EndRound(Round& round, int64_t steps_done) {
  const ExchangeSpec& spec = *round.row->spec;
  ASSIGN_OR_RETURN(const std::vector<ReplicaReport> replicas,
                   GatherReports(round.loss, SquaresOf(round)));
  const bool last = round.clock->IsLast(steps_done);
  round.sent = {round.clock->round(), WeightsOf(spec, replicas), round.clock->learning_rate(),
                round.clock->LearningRateSum(), last};
  round.apply_at = last ? steps_done : steps_done + spec.delay;
  RETURN_IF_ERROR(round.exchange->Send(round.sent));
  const LossSum total = TotalLoss(replicas);
  round.clock->BeginNext(total.count == 0 ? 0 : total.sum / static_cast<double>(total.count));
  round.loss = {};
  round.mean_squares = 0;
  for (size_t k = 0; k < replicas.size(); ++k) {
    round.mean_squares += round.sent.weights[k] * replicas[k].squares;
  }
  ++report_.rounds;
  return absl::OkStatus();
}

Status Exchanges::ApplyRound(Round& round) {
  RETURN_IF_ERROR(round.exchange->Apply(round.sent));
  round.apply_at = 0;
  if (!round.row->spec->state.empty()) return absl::OkStatus();
  const bool equal = round.exchange->makes_equal() || round.sent.last;
  if (round.row->spec->point == ExchangePoint::kParameters && round.exchange->makes_equal()) {
    // mean |x_k - mean|^2 = mean |x_k|^2 - |mean|^2, in f64.
    const double squares = SquaresOf(round);
    spread_ += round.mean_squares - squares;
    squares_ += squares;
  }
  for (const int i : round.parameters) {
    exchanged_at_[i] = steps_done_;
    if (equal) agrees_[i] = true;
  }
  return absl::OkStatus();
}

}  // namespace trireme
