#include "launch/exchange_traffic.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/base/rng.h"
#include "launch/config.h"
#include "launch/exchange_config.h"
#include "launch/trainer.h"
#include "parallel/shard/model_mesh.h"
#include "parallel/sync/direct_mean.h"
#include "parallel/sync/mixer.h"
#include "parallel/sync/round_clock.h"
#include "parallel/sync/whole_blocks.h"

namespace trireme {
namespace {

// Whether the gradients of a step are plainly added up over the replicas by `row`.
bool AddsUp(absl::Span<const ExchangeSpec> rows, size_t row, int64_t step) {
  return rows[row].IsActive(step) && AddsAllGradientsUp(rows, static_cast<int>(row));
}

// One row on one rank: its codec and mixer, and what it has of the parameters.
class RowWalk {
 public:
  RowWalk(const ExchangeSpec& spec, const Mesh& mesh, int rank, DType master, uint64_t seed)
      : spec_(spec),
        mesh_(mesh),
        rank_(rank),
        replica_{mesh.Coordinate(rank, Axis::kReplica), mesh.size(Axis::kReplica)},
        group_(mesh.GroupOver(kSliceAxes, rank)),
        master_(master),
        seed_(seed) {}

  Status Make() {
    ASSIGN_OR_RETURN(codec_, MakeCodec(spec_.codec.name, spec_.codec.params));
    ASSIGN_OR_RETURN(mixer_, MakeMixer(spec_.mixer.name, spec_.mixer.params));
    weights_ = spec_.weights;
    if (weights_.empty()) weights_.assign(replica_.size, 1);
    double sum = 0;
    for (const double weight : weights_) sum += weight;
    for (double& weight : weights_) weight /= sum;
    return mixer_->Check(*codec_, replica_.size);
  }

  // Of parameters[i] for each i of `chosen`.
  Status Choose(const ParameterSet& parameters, absl::Span<const int> chosen,
                const ExchangePlanner::OwnedBoxes& boxes) {
    slices_.clear();
    std::vector<BlockParameter> blocks;
    for (const int i : chosen) {
      const ParamSpec& spec = parameters.parameters()[i]->spec;
      RETURN_IF_ERROR(codec_->Check(spec.global));
      slices_.push_back(boxes(i, rank_).numel());
      BlockParameter& block = blocks.emplace_back();
      block.key = StableHash(spec.path);
      block.shape = spec.global;
      for (const int rank : group_) block.boxes.push_back(boxes(i, rank));
    }
    ASSIGN_OR_RETURN(plan_,
                     PlanBlocks(blocks, codec_->block_size(), mesh_.IndexIn(kSliceAxes, rank_),
                                static_cast<int>(group_.size())));
    return absl::OkStatus();
  }

  void GradientStep(int64_t step, Traffic* sent) const {
    ToBlocks(spec_.state.empty() ? 1 : 2, sent);
    Mix(step, "gradients", sent);
    FromBlocks(1, sent);
  }

  void Round(int64_t round, bool last, Traffic* sent) const {
    const char* purpose = spec_.state.empty() ? ExchangePointName(spec_.point) : "optimizer states";
    GatherLosses(sent);
    if (spec_.point == ExchangePoint::kDifference) {
      ToBlocks(2, sent);
      Mix(round, purpose, sent);
      return FromBlocks(1, sent);
    }
    if (spec_.mixer.name == "all_reduce") {
      for (const int64_t count : DirectMeanCalls(slices_)) AllReduce(purpose, count, master_, sent);
      return;
    }
    ToBlocks(1, sent);
    Mix(round, purpose, sent);
    if (last && !mixer_->means()) {
      Add("push weights", Verb::kAllGather,
          AllGatherBytes(replica_, std::vector<int64_t>(replica_.size, 1), DType::kF64), sent);
      AllReduce("last mean", plan_.size, master_, sent);
    }
    FromBlocks(1, sent);
  }

  // Whether the distance of the replicas from their mean is measured.
  bool measures() const {
    return spec_.point == ExchangePoint::kParameters && mixer_->means() && spec_.state.empty();
  }
  void Measure(Traffic* sent) const {
    const Place whole = {mesh_.IndexIn(kReplicaAxes, rank_), mesh_.size(kReplicaAxes)};
    if (whole.size == 1) return;
    sent->Add(AxisSet(kReplicaAxes).ToString(), "replica divergence", Verb::kAllReduce, whole.size,
              AllReduceBytes(whole, 2, DType::kF64, CommOptions().block_bytes));
  }

  // Sum, labels, bytes, squares.
  void GatherLosses(Traffic* sent) const {
    Add("loss", Verb::kAllGather,
        AllGatherBytes(replica_, std::vector<int64_t>(replica_.size, 4), DType::kF64), sent);
  }

 private:
  void Add(const char* purpose, Verb verb, int64_t bytes, Traffic* sent) const {
    if (replica_.size == 1) return;
    sent->Add(AxisName(Axis::kReplica), purpose, verb, replica_.size, bytes);
  }
  void AllReduce(const char* purpose, int64_t count, DType dtype, Traffic* sent) const {
    Add(purpose, Verb::kAllReduce,
        AllReduceBytes(replica_, count, dtype, CommOptions().block_bytes), sent);
  }

  void Mix(int64_t round, const char* purpose, Traffic* sent) const {
    const MixBundle bundle = {
        *codec_, plan_.pieces, {seed_, round}, weights_, spec_.memory != ExchangeMemory::kNone};
    const std::string& name = spec_.mixer.name;
    Verb verb = Verb::kSend;
    if (name == "all_gather") verb = Verb::kAllGather;
    if (name == "scatter_gather") verb = Verb::kAllToAll;
    if (name == "all_reduce") verb = Verb::kAllReduce;
    if (name == "subset") {
      verb = codec_->num_linear_passes() > 0 ? Verb::kAllReduce : Verb::kAllGather;
    }
    Add(purpose, verb, mixer_->SentBytes(bundle, master_, replica_), sent);
  }

  void ToBlocks(int times, Traffic* sent) const { Move(plan_.out, times, sent); }
  void FromBlocks(int times, Traffic* sent) const { Move(plan_.in, times, sent); }
  void Move(const std::vector<BlockMove>& moves, int times, Traffic* sent) const {
    if (!plan_.moves) return;
    int64_t elements = 0;
    for (const BlockMove& move : moves) elements += move.size;
    for (int i = 0; i < times; ++i) {
      sent->Add(AxisSet(kSliceAxes).ToString(), "whole blocks", Verb::kAllToAll,
                static_cast<int>(group_.size()), elements * DTypeSize(master_));
    }
  }

  const ExchangeSpec& spec_;
  const Mesh& mesh_;
  const int rank_;
  const Place replica_;
  const std::vector<int> group_;
  const DType master_;
  const uint64_t seed_;
  std::unique_ptr<Codec> codec_;
  std::unique_ptr<Mixer> mixer_;
  std::vector<double> weights_;
  std::vector<int64_t> slices_;
  BlockPlan plan_;
};

}  // namespace

StatusOr<ExchangePlanner> ExchangePlanner::Create(const RunConfig& config, const Mesh& mesh) {
  ExchangePlanner planner(config, mesh);
  ASSIGN_OR_RETURN(planner.rows_, ExchangesOf(config));
  const ComponentConfig schedule = ToComponentConfig(config.lr_schedule());
  ASSIGN_OR_RETURN(planner.schedule_,
                   LrSchedule::Create(schedule.name, schedule.params, config.learning_rate(),
                                      config.num_steps()));
  ASSIGN_OR_RETURN(const DType dtype, ComputeDType(config.dtype()));
  planner.master_ = AccumulationType(dtype);
  return planner;
}

ExchangePlanner::Added ExchangePlanner::GradientsAddedUp() const {
  Added added;
  for (size_t row = 0; row < rows_.size(); ++row) {
    for (int64_t step = 0; step < config_.num_steps(); ++step) {
      if (!AddsUp(rows_, row, step)) continue;
      added.row = static_cast<int>(row);
      ++added.num_steps;
    }
  }
  return added;
}

bool ExchangePlanner::is_data_parallel() const {
  return rows_.size() == 1 && GradientsAddedUp().num_steps == config_.num_steps();
}

StatusOr<std::vector<ExchangeTraffic>> ExchangePlanner::Plan(int rank,
                                                             const ParameterSet& parameters,
                                                             const OwnedBoxes& boxes) const {
  std::vector<ExchangeTraffic> exchanges;
  std::vector<bool> gathers_losses(config_.num_steps());  // Once for all gradient rows of a step.
  std::vector<bool> measures(config_.num_steps() + 1);    // Once for all rounds that end with it.
  const std::vector<std::string> paths = parameters.Paths();
  for (size_t row = 0; row < rows_.size(); ++row) {
    const ExchangeSpec& spec = rows_[row];
    RowWalk walk(spec, mesh_, rank, master_, static_cast<uint64_t>(config_.seed()));
    RETURN_IF_ERROR(walk.Make());
    const std::vector<bool> taken = ParametersOf(rows_, static_cast<int>(row), paths);
    std::vector<int> chosen;
    for (size_t i = 0; i < parameters.parameters().size(); ++i) {
      const ParamSpec& parameter = parameters.parameters()[i]->spec;
      const size_t at = std::find(paths.begin(), paths.end(), parameter.path) - paths.begin();
      if (!parameter.frozen && taken[at]) chosen.push_back(static_cast<int>(i));
    }
    ExchangeTraffic traffic;
    traffic.row = static_cast<int>(row);
    traffic.num_exchanges = 0;
    const int64_t last_step = std::min(spec.until_step, config_.num_steps());
    if (spec.is_of_gradients()) {
      RETURN_IF_ERROR(walk.Choose(parameters, chosen, boxes));
      for (int64_t step = spec.from_step; step < last_step; ++step) {
        if (AddsUp(rows_, row, step)) continue;
        if (!gathers_losses[step]) walk.GatherLosses(&traffic.sent);
        gathers_losses[step] = true;
        walk.GradientStep(step, &traffic.sent);
        ++*traffic.num_exchanges;
      }
      if (*traffic.num_exchanges > 0) exchanges.push_back(std::move(traffic));
      continue;
    }
    if (spec.from_step >= last_step) continue;
    RunTimes times;
    times.first_step = spec.from_step;
    times.num_steps = last_step;
    times.warmup_steps = schedule_.warmup_steps();
    times.peak_learning_rate = config_.learning_rate();
    times.learning_rate = [this](int64_t step) { return schedule_.LearningRate(step); };
    ASSIGN_OR_RETURN(const auto rule, MakeSyncRule(spec.rule.name, spec.rule.params, last_step));
    for (int64_t fragment = 0; fragment < spec.fragments; ++fragment) {
      std::vector<int> mine;
      for (const int i : chosen) {
        const int unit = parameters.parameters()[i]->spec.units.front();
        if (unit % spec.fragments == fragment) mine.push_back(i);
      }
      RETURN_IF_ERROR(walk.Choose(parameters, mine, boxes));
      if (rule->needs_signals()) {
        walk.Round(0, false, &traffic.sent);
        traffic.num_exchanges.reset();
        continue;
      }
      RoundClock clock(*rule, times, fragment, spec.fragments);
      while (clock.period() > 0) {
        const int64_t end = clock.round_start() + clock.period();
        walk.Round(clock.round(), clock.IsLast(end), &traffic.sent);
        if (walk.measures() && !measures[end]) walk.Measure(&traffic.sent);
        measures[end] = measures[end] || walk.measures();
        ++*traffic.num_exchanges;
        clock.BeginNext(0);
      }
    }
    exchanges.push_back(std::move(traffic));
  }
  return exchanges;
}

}  // namespace trireme
