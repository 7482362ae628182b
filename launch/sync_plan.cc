#include "launch/sync_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/base/rng.h"
#include "launch/config.h"
#include "launch/exchange_config.h"
#include "launch/trained_parameters.h"
#include "optim/lr_schedules.h"
#include "parallel/comm/traffic.h"
#include "parallel/sync/mixer.h"

namespace trireme {
namespace {

class SyncPlanner {
 public:
  SyncPlanner(const RunConfig& config, const ParameterSet& parameters) : config_(config) {
    for (const auto& parameter : parameters.parameters()) {
      const ParamSpec& spec = parameter->spec;
      if (spec.frozen) continue;
      paths_.push_back(spec.path);
      units_.push_back(spec.units.front());
      pieces_.push_back({StableHash(spec.path), spec.global, 0, spec.global.numel()});
    }
  }

  StatusOr<SyncPlan> Plan() {
    ASSIGN_OR_RETURN(const DType dtype, ComputeDType(config_.dtype()));
    master_ = AccumulationType(dtype);
    const ComponentConfig schedule = ToComponentConfig(config_.lr_schedule());
    ASSIGN_OR_RETURN(schedule_, LrSchedule::Create(schedule.name, schedule.params,
                                                   config_.learning_rate(), config_.num_steps()));
    ASSIGN_OR_RETURN(rows_, ExchangesOf(config_));
    plan_.num_steps = config_.num_steps();
    plan_.warmup_steps = schedule_.warmup_steps();
    plan_.num_replicas = static_cast<int>(config_.mesh().replica());
    for (const CodecPiece& piece : pieces_) plan_.num_parameters += piece.size;
    for (int k = 0; k < plan_.num_replicas; ++k) {
      plan_.data_parallel_bytes += AllReduceBytes({k, plan_.num_replicas}, plan_.num_parameters,
                                                  master_, CommOptions().block_bytes);
    }
    for (size_t row = 0; row < rows_.size(); ++row) {
      StatusOr<ExchangePlan> exchange = PlanRow(static_cast<int>(row));
      if (!exchange.ok()) return Annotate(exchange.status(), absl::StrCat("exchanges.", row));
      plan_.exchanges.push_back(*std::move(exchange));
    }
    return std::move(plan_);
  }

 private:
  StatusOr<ExchangePlan> PlanRow(int row) const {
    ExchangePlan exchange;
    exchange.spec = rows_[row];
    const ExchangeSpec& spec = exchange.spec;
    RunTimes times;
    times.first_step = spec.from_step;
    times.num_steps = std::min(spec.until_step, plan_.num_steps);
    times.warmup_steps = plan_.warmup_steps;
    times.peak_learning_rate = config_.learning_rate();
    times.learning_rate = [this](int64_t step) { return schedule_.LearningRate(step); };
    ASSIGN_OR_RETURN(const auto rule,
                     MakeSyncRule(spec.rule.name, spec.rule.params, times.num_steps));
    ASSIGN_OR_RETURN(const auto codec, MakeCodec(spec.codec.name, spec.codec.params));
    ASSIGN_OR_RETURN(const auto mixer, MakeMixer(spec.mixer.name, spec.mixer.params));
    RETURN_IF_ERROR(mixer->Check(*codec, plan_.num_replicas));
    const std::vector<bool> mine = ParametersOf(rows_, row, paths_);
    for (int64_t fragment = 0; fragment < spec.fragments; ++fragment) {
      FragmentPlan planned;
      if (!rule->needs_signals()) {
        planned.schedule = WalkRun(*rule, times, fragment, spec.fragments);
      }
      std::vector<CodecPiece> pieces;
      for (size_t p = 0; p < pieces_.size(); ++p) {
        if (!mine[p] || units_[p] % spec.fragments != fragment) continue;
        RETURN_IF_ERROR(Annotate(codec->Check(pieces_[p].parameter), paths_[p]));
        pieces.push_back(pieces_[p]);
        planned.num_parameters += pieces_[p].size;
      }
      planned.sent_bytes = SentBytes(spec, *codec, *mixer, pieces);
      exchange.fragments.push_back(std::move(planned));
    }
    return exchange;
  }

  int64_t SentBytes(const ExchangeSpec& spec, const Codec& codec, const Mixer& mixer,
                    absl::Span<const CodecPiece> pieces) const {
    if (pieces.empty()) return 0;
    std::vector<double> weights = spec.weights;
    if (weights.empty()) weights.assign(plan_.num_replicas, 1.0 / plan_.num_replicas);
    const MixBundle bundle = {codec, pieces, {static_cast<uint64_t>(config_.seed()), 0}, weights};
    int64_t bytes = 0;
    for (int k = 0; k < plan_.num_replicas; ++k) {
      bytes += mixer.SentBytes(bundle, master_, {k, plan_.num_replicas});
    }
    return bytes;
  }

  const RunConfig& config_;
  // Of each parameter that is trained.
  std::vector<std::string> paths_;
  std::vector<int> units_;
  std::vector<CodecPiece> pieces_;
  std::vector<ExchangeSpec> rows_;
  LrSchedule schedule_;
  DType master_ = DType::kF32;
  SyncPlan plan_;
};

}  // namespace

std::optional<double> SyncPlan::share() const {
  double sent = 0;
  for (const ExchangePlan& exchange : exchanges) {
    for (const FragmentPlan& fragment : exchange.fragments) {
      if (!fragment.schedule.has_value()) return std::nullopt;
      sent += static_cast<double>(fragment.sent_bytes) * fragment.schedule->num_exchanges();
    }
  }
  return sent == 0 ? 0 : sent / (static_cast<double>(data_parallel_bytes) * num_steps);
}

StatusOr<SyncPlan> PlanSync(const RunConfig& config, const DataShape& data) {
  // Whole parameters: how a replica is cut over its ranks changes no byte of what replicas send.
  ASSIGN_OR_RETURN(const auto model, MakeModel(ToComponentConfig(config.model()), data));
  RETURN_IF_ERROR(ChooseTrained(config, model->parameters()));
  return SyncPlanner(config, model->parameters()).Plan();
}

}  // namespace trireme
