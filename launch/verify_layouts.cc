#include "launch/verify_layouts.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "core/ops/devices.h"
#include "launch/agreement.h"
#include "launch/catalogue.h"
#include "launch/config.h"
#include "launch/config_reader.h"
#include "launch/exchange_config.h"
#include "launch/layout_comparison.h"
#include "launch/rank_device.h"
#include "launch/sync_plan.h"
#include "parallel/comm/local.h"

namespace trireme {
namespace {

// What a layout came to on all of its ranks: a comparison, or why there is none.
struct Run {
  LayoutComparison comparison;
  bool made = false;  // Every rank's trainer was.
  Status status;
};

StatusOr<std::unique_ptr<Dataset>> DatasetOf(const RunConfig& config) {
  const ComponentConfig data = ToComponentConfig(config.data().dataset());
  return MakeDataset(data.name, data.params, {config.data().sequence_length()});
}

// The step after the second exchange of each row, if the run is as long.
StatusOr<int> StepsWithExchanges(const RunConfig& config) {
  ASSIGN_OR_RETURN(const auto dataset, DatasetOf(config));
  ASSIGN_OR_RETURN(const SyncPlan plan, PlanSync(config, DataShapeOf(*dataset)));
  int64_t steps = 0;
  for (const ExchangePlan& exchange : plan.exchanges) {
    for (const FragmentPlan& fragment : exchange.fragments) {
      int64_t end = plan.num_steps;
      if (fragment.schedule.has_value()) {
        int64_t rounds = 0;
        for (const RoundRun& run : fragment.schedule->runs) {
          const int64_t wanted = std::min<int64_t>(2 - rounds, run.num_rounds);
          if (wanted <= 0) break;
          end = run.first_step + wanted * run.period + exchange.spec.delay;
          rounds += wanted;
        }
      }
      steps = std::max(steps, end + 1);
    }
  }
  return static_cast<int>(std::min(steps, plan.num_steps));
}

class Verifier {
 public:
  Verifier(const RunConfig& config, const VerifyOptions& options)
      : config_(config), replicas_decide_(ReplicasDecide(config)), options_(options) {}

  bool replicas_decide() const { return replicas_decide_; }
  int num_replicas() const {
    return replicas_decide_ ? static_cast<int>(config_.mesh().replica()) : 1;
  }

  // One rank in f64, and, to compare f32 with, in f32. Or one rank for each replica.
  Status MakeReferences() {
    if (replicas_decide_) RETURN_IF_ERROR(CheckReplicas());
    ASSIGN_OR_RETURN(const RunConfig config, ConfigOf({}, num_replicas(), DType::kF64));
    if (options_.num_steps == 0) {
      options_.num_steps = 2;
      if (replicas_decide_) {
        ASSIGN_OR_RETURN(options_.num_steps, StepsWithExchanges(config));
      }
    }
    references_.assign(num_replicas(), std::vector<ReferenceStep>(options_.num_steps));
    if (replicas_decide_) {
      RETURN_IF_ERROR(RunOnRanks(num_replicas(), {}, [&](Communicator& world) -> Status {
        return Record(config, world, &references_[world.rank()]);
      }));
      CompleteKept();
      return absl::OkStatus();
    }
    const auto world = MakeSelfCommunicator();
    RETURN_IF_ERROR(Record(config, *world, &references_[0]));
    if (options_.dtype == DType::kF64) return absl::OkStatus();
    one_rank_.emplace(references_[0], kNoTolerance);
    std::atomic<bool> made = false;
    ASSIGN_OR_RETURN(const RunConfig same, ConfigOf({}, 1, options_.dtype));
    return RunRank(same, *world, &made, &*one_rank_);
  }

  LayoutVerdict VerifyOnThreads(const RunLayout& layout, int num_ranks) const {
    LayoutVerdict verdict = VerdictOf(layout, RunOnThreads(layout, num_ranks));
    if (verdict.outcome == LayoutVerdict::Outcome::kDiffers && options_.blame) {
      const std::string axes = Blame(layout, num_ranks);
      if (!axes.empty()) absl::StrAppend(&verdict.reason, " (not without the ", axes, " axis)");
    }
    return verdict;
  }

  StatusOr<LayoutVerdict> VerifyOn(Communicator& world, const RunLayout& layout) const {
    const StatusOr<RunConfig> config = ConfigOf(layout, world.size(), options_.dtype);
    Run run{
        LayoutComparison(config.ok() ? ReferenceOf(*config, world) : references_[0], tolerance()),
        false, absl::OkStatus()};
    std::atomic<bool> made = false;
    run.status = config.ok() ? RunRank(*config, world, &made, &run.comparison) : config.status();
    run.made = made;
    if (run.made) RETURN_IF_ERROR(run.status);
    // Every rank comes to the same refusal; of comparisons each has a part.
    const auto exact = [](std::string* out, double value) {
      absl::StrAppendFormat(out, "%.17g", value);
    };
    const std::string mine = absl::StrCat(absl::StrJoin(run.comparison.ToNumbers(), ",", exact),
                                          "\n", run.comparison.first());
    ASSIGN_OR_RETURN(const std::vector<std::string> texts, GatherTexts(world, mine));
    LayoutComparison merged(references_[0], tolerance());
    for (const std::string& text : texts) {
      const std::pair<std::string, std::string> lines =
          absl::StrSplit(text, absl::MaxSplits('\n', 1));
      std::vector<double> numbers;
      for (const absl::string_view number : absl::StrSplit(lines.first, ',')) {
        numbers.push_back(std::strtod(std::string(number).c_str(), nullptr));
      }
      merged.MergeNumbers(numbers, lines.second);
    }
    run.comparison = merged;
    return VerdictOf(layout, run);
  }

 private:
  static constexpr double kNoTolerance = 1e300;
  double tolerance() const {
    return options_.dtype == DType::kF64 ? options_.tolerance : kNoTolerance;
  }

  Status CheckReplicas() const {
    if (!config_.mesh().has_replica() || config_.mesh().replica() < 1) {
      return absl::InvalidArgumentError(
          "mesh.replica: with exchanges the number of replicas decides what a run computes; give "
          "it: --set mesh.replica=2");
    }
    if (options_.dtype == DType::kF64) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "runs with exchanges are compared in f64: in f32 rounding turns thresholds of codecs");
  }

  // The reference of the replica that a rank belongs to.
  const std::vector<ReferenceStep>& ReferenceOf(const RunConfig& config,
                                                const Communicator& world) const {
    const StatusOr<Mesh> mesh = MeshOf(config, world.size());
    const bool one = !replicas_decide_ || !mesh.ok();
    return references_[one ? 0 : mesh->Coordinate(world.rank(), Axis::kReplica)];
  }

  Status Record(const RunConfig& config, Communicator& world,
                std::vector<ReferenceStep>* steps) const {
    const auto device = MakeCpuDevice();
    PhaseTimer phases;
    ASSIGN_OR_RETURN(const auto dataset, DatasetOf(config));
    ASSIGN_OR_RETURN(const auto trainer,
                     Trainer::Create(config, *dataset, world, *device, phases, options_.model));
    for (ReferenceStep& step : *steps) RETURN_IF_ERROR(RecordStep(*trainer, &step));
    return absl::OkStatus();
  }

  // Replicas share some of what they keep between them: each has what another left out.
  void CompleteKept() {
    for (size_t step = 0; step < references_[0].size(); ++step) {
      for (auto& [name, mine] : references_[0][step].kept) {
        for (const auto& other : references_) {
          const std::vector<double>& theirs = other[step].kept.at(name);
          for (size_t i = 0; i < mine.size(); ++i) {
            if (std::isnan(mine[i])) mine[i] = theirs[i];
          }
        }
        for (auto& other : references_) {
          std::vector<double>& theirs = other[step].kept.at(name);
          for (size_t i = 0; i < mine.size(); ++i) {
            if (std::isnan(theirs[i])) theirs[i] = mine[i];
          }
        }
      }
    }
  }

  static Status RecordStep(Trainer& trainer, ReferenceStep* step) {
    trainer.executor().set_probe([&](int unit, const Tensor& output, const Batch& batch) {
      ForEachRow(output, batch.layout, [&](Token token, std::vector<double> row) {
        step->hidden[unit][token] = std::move(row);
      });
    });
    ASSIGN_OR_RETURN(const StepReport report, trainer.Step());
    step->loss = report.loss;
    step->grad_norm = report.grad_norm;
    const auto& all = trainer.model().parameters().parameters();
    for (size_t i = 0; i < all.size(); ++i) {
      step->gradients[all[i]->spec.path] = trainer.gradients().of(i).ToVector();
      step->weights[all[i]->spec.path] = all[i]->owned.ToVector();
    }
    RETURN_IF_ERROR(trainer.exchanges().Settle());
    for (const Exchanges::Part& part : trainer.exchanges().Parts()) {
      std::vector<double>& whole = step->kept[part.name];
      whole.resize(part.global.numel(), std::numeric_limits<double>::quiet_NaN());
      if (part.local.numel() == 0) continue;
      const std::vector<double> values = part.data.ToVector();
      const BoxRuns runs(part.local.size, WholeBox(part.local.size).begin, part.global,
                         part.local.begin, part.local.size);
      for (int64_t k = 0; k < runs.count(); ++k) {
        std::copy_n(values.begin() + runs[k].source, runs.length(), whole.begin() + runs[k].dest);
      }
    }
    return absl::OkStatus();
  }

  Run RunOnThreads(const RunLayout& layout, int num_ranks) const {
    Run run{LayoutComparison(references_[0], tolerance()), false, absl::OkStatus()};
    const StatusOr<RunConfig> config = ConfigOf(layout, num_ranks, options_.dtype);
    if (!config.ok()) {
      run.status = config.status();
      return run;
    }
    std::atomic<bool> made = false;
    std::mutex mutex;
    CommOptions comm;
    comm.deadline = absl::Seconds(60);
    run.status = RunOnRanks(num_ranks, comm, [&](Communicator& world) -> Status {
      LayoutComparison comparison(ReferenceOf(*config, world), tolerance());
      const auto wrapped = options_.wrap_world == nullptr ? nullptr : options_.wrap_world(world);
      RETURN_IF_ERROR(RunRank(*config, wrapped == nullptr ? world : *wrapped, &made, &comparison));
      const std::lock_guard<std::mutex> lock(mutex);
      run.comparison.Merge(comparison);
      return absl::OkStatus();
    });
    run.made = made;
    return run;
  }

  LayoutVerdict VerdictOf(const RunLayout& layout, const Run& run) const {
    using Outcome = LayoutVerdict::Outcome;
    LayoutVerdict verdict;
    verdict.layout = layout;
    if (!run.status.ok()) {
      // Refused before anything ran: this model has no such layout.
      const bool refused = !run.made && absl::IsInvalidArgument(run.status);
      verdict.outcome = refused ? Outcome::kSkipped : Outcome::kDiffers;
      verdict.reason = std::string(run.status.message());
      // Every rank refuses for the same reason; which was first does not matter.
      if (refused && absl::StartsWith(verdict.reason, "rank ")) {
        verdict.reason.erase(0, verdict.reason.find(": ") + 2);
      }
      return verdict;
    }
    verdict.worst = run.comparison.worst();
    verdict.reason = run.comparison.first();
    if (one_rank_.has_value()) CompareDistances(run.comparison, &verdict);
    if (!verdict.reason.empty()) verdict.outcome = Outcome::kDiffers;
    return verdict;
  }

  // In f32 both are wrong: a layout at most twice as much as one rank. (Over one step. From the
  // second on, AdamW has divided gradients that are all rounding error by their own size, and
  // distances are left to chance.)
  void CompareDistances(const LayoutComparison& comparison, LayoutVerdict* verdict) const {
    constexpr const char* kNames[] = {"hidden states", "loss and norm", "gradients", "weights"};
    constexpr double kEpsilon = 0x1p-23;
    verdict->worst = 0;
    for (const auto kind : {LayoutComparison::kHidden, LayoutComparison::kScalars,
                            LayoutComparison::kGradients, LayoutComparison::kWeights}) {
      // A loss may be right by chance.
      const double one = std::max(one_rank_->Distance(kind),
                                  kind == LayoutComparison::kScalars ? kEpsilon : kEpsilon / 16);
      const double ratio = comparison.Distance(kind) / one;
      verdict->worst = std::max(verdict->worst, ratio);
      if (ratio <= 2 || !verdict->reason.empty()) continue;
      verdict->reason = absl::StrFormat("%s are %.1f times as far from f64 as those of one rank",
                                        kNames[kind], ratio);
    }
  }

  // The axes without which a layout that differs does not.
  std::string Blame(const RunLayout& layout, int num_ranks) const {
    std::string axes;
    for (const Axis axis : kAllAxes) {
      if (replicas_decide_ && axis == Axis::kReplica) continue;
      RunLayout without = layout;
      int smaller = num_ranks;
      for (auto& [path, value] : without.values) {
        if (path != absl::StrCat("mesh.", AxisName(axis)) || value == "1") continue;
        smaller /= std::stoi(value);
        value.assign(1, '1');
      }
      if (smaller == num_ranks) continue;
      const LayoutVerdict verdict = VerdictOf(without, RunOnThreads(without, smaller));
      if (verdict.outcome != LayoutVerdict::Outcome::kEqual) continue;
      absl::StrAppend(&axes, axes.empty() ? "" : "+", AxisName(axis));
    }
    return axes;
  }

  StatusOr<RunConfig> ConfigOf(const RunLayout& layout, int num_ranks, DType dtype) const {
    LoadedConfig loaded{config_, {}};
    loaded.config.set_dtype(DTypeName(dtype));
    loaded.config.set_num_steps(std::max<int64_t>(config_.num_steps(), options_.num_steps));
    RunConfig::Mesh& mesh = *loaded.config.mutable_mesh();
    mesh.set_replica(replicas_decide_ ? num_replicas() : num_ranks);
    mesh.set_pipeline(1), mesh.set_shard(1), mesh.set_sequence(1), mesh.set_tensor(1);
    for (const auto& [path, value] : layout.values) {
      RETURN_IF_ERROR(
          ApplyAssignment(absl::StrCat(path, "=", value), &loaded.config, &loaded.origins));
    }
    if (replicas_decide_ && mesh.replica() != num_replicas()) {
      return absl::InvalidArgumentError(absl::StrCat("the config has ", num_replicas(),
                                                     " replicas; another number computes other "
                                                     "things"));
    }
    loaded.origins.clear();
    RETURN_IF_ERROR(ResolveConfig(num_ranks, Catalogue(), &loaded));
    return loaded.config;
  }

  Status RunRank(const RunConfig& config, Communicator& world, std::atomic<bool>* made,
                 LayoutComparison* comparison) const {
    ASSIGN_OR_RETURN(const RankDevice made_on,
                     MakeRankDevice(world, {options_.device}, world.rank(), 1, {}));
    Communicator& tensor_world = made_on.communicator == nullptr ? world : *made_on.communicator;
    PhaseTimer phases;
    ASSIGN_OR_RETURN(const auto dataset, DatasetOf(config));
    ASSIGN_OR_RETURN(const auto trainer, Trainer::Create(config, *dataset, tensor_world,
                                                         *made_on.device, phases, options_.model));
    RETURN_IF_ERROR(world.Barrier({.purpose = "verify"})->Wait());
    *made = true;
    const TensorAxis tensor = trainer->mesh().tensor(config.mesh().sharded_stream());
    for (int64_t step = 0; step < options_.num_steps; ++step) {
      trainer->executor().set_probe([&](int unit, const Tensor& output, const Batch& batch) {
        comparison->Hidden(step, unit, output, tensor.StreamLayout(batch.layout));
      });
      ASSIGN_OR_RETURN(const StepReport report, trainer->Step());
      RETURN_IF_ERROR(comparison->Step(step, report, *trainer));
    }
    return absl::OkStatus();
  }

  const RunConfig config_;
  const bool replicas_decide_;
  VerifyOptions options_;
  std::vector<std::vector<ReferenceStep>> references_;  // By replica.
  std::optional<LayoutComparison> one_rank_;            // Of options_.dtype, unless that is f64.
};

using VerifyFn = std::function<StatusOr<LayoutVerdict>(const RunLayout&)>;

StatusOr<std::vector<LayoutVerdict>> VerifyAll(int num_ranks, const RunConfig& config,
                                               const VerifyOptions& options,
                                               const Verifier& verifier, const VerifyFn& verify,
                                               const ReportVerdict& report) {
  std::vector<RunLayout> layouts = options.layouts;
  if (layouts.empty()) {
    layouts = AllLayouts(num_ranks, HasLinearAttention(config));
    if (verifier.replicas_decide()) {
      const std::string replicas = absl::StrCat(verifier.num_replicas());
      std::erase_if(layouts, [&](const RunLayout& layout) {
        return std::count(layout.values.begin(), layout.values.end(),
                          std::pair<std::string, std::string>("mesh.replica", replicas)) == 0;
      });
    }
    if (layouts.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          num_ranks, " ranks are no multiple of mesh.replica=", verifier.num_replicas()));
    }
  }
  if (options.layouts.empty() && options.pairwise) layouts = PairwiseCover(layouts);
  std::vector<LayoutVerdict> verdicts;
  for (const RunLayout& layout : layouts) {
    ASSIGN_OR_RETURN(LayoutVerdict verdict, verify(layout));
    if (report != nullptr) report(verdict);
    verdicts.push_back(std::move(verdict));
  }
  return verdicts;
}

}  // namespace

bool ReplicasDecide(const RunConfig& config) {
  if (config.has_local_step() && config.local_step().name() != "plain") return true;
  const StatusOr<std::vector<ExchangeSpec>> rows = ExchangesOf(config);
  if (!rows.ok() || rows->size() != 1) return true;
  const ExchangeSpec& row = rows->front();
  const bool always = row.IsActive(0) && row.IsActive(std::numeric_limits<int64_t>::max() - 1);
  return !(row.IsPlainGradient() && row.pattern == "*" && always);
}

StatusOr<std::vector<LayoutVerdict>> VerifyLayouts(const RunConfig& config,
                                                   const VerifyOptions& options,
                                                   const ReportVerdict& report) {
  Verifier verifier(config, options);
  RETURN_IF_ERROR(verifier.MakeReferences());
  const auto verify = [&](const RunLayout& layout) -> StatusOr<LayoutVerdict> {
    return verifier.VerifyOnThreads(layout, options.num_ranks);
  };
  return VerifyAll(options.num_ranks, config, options, verifier, verify, report);
}

StatusOr<std::vector<LayoutVerdict>> VerifyLayoutsOn(Communicator& world, const RunConfig& config,
                                                     const VerifyOptions& options,
                                                     const ReportVerdict& report) {
  Verifier verifier(config, options);
  RETURN_IF_ERROR(verifier.MakeReferences());
  const auto verify = [&](const RunLayout& layout) { return verifier.VerifyOn(world, layout); };
  return VerifyAll(world.size(), config, options, verifier, verify, report);
}

}  // namespace trireme
