#include "launch/verify_layouts.h"

#include <algorithm>
#include <atomic>
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
#include "launch/layout_comparison.h"
#include "launch/rank_device.h"
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

class Verifier {
 public:
  Verifier(const RunConfig& config, const VerifyOptions& options)
      : config_(config), options_(options) {}

  // One rank in f64, and, to compare f32 with, in f32.
  Status MakeReferences() {
    ASSIGN_OR_RETURN(const RunConfig config, ConfigOf({}, 1, DType::kF64));
    reference_.resize(options_.num_steps);
    const auto device = MakeCpuDevice();
    const auto world = MakeSelfCommunicator();
    PhaseTimer phases;
    ASSIGN_OR_RETURN(const auto dataset, DatasetOf(config));
    ASSIGN_OR_RETURN(const auto trainer,
                     Trainer::Create(config, *dataset, *world, *device, phases, options_.model));
    for (ReferenceStep& step : reference_) RETURN_IF_ERROR(RecordStep(*trainer, &step));
    if (options_.dtype == DType::kF64) return absl::OkStatus();
    one_rank_.emplace(reference_, kNoTolerance);
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
    Run run{LayoutComparison(reference_, tolerance()), false, absl::OkStatus()};
    const StatusOr<RunConfig> config = ConfigOf(layout, world.size(), options_.dtype);
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
    LayoutComparison merged(reference_, tolerance());
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
    return absl::OkStatus();
  }

  Run RunOnThreads(const RunLayout& layout, int num_ranks) const {
    Run run{LayoutComparison(reference_, tolerance()), false, absl::OkStatus()};
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
      LayoutComparison comparison(reference_, tolerance());
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
    mesh.set_replica(num_ranks);
    mesh.set_pipeline(1), mesh.set_shard(1), mesh.set_sequence(1), mesh.set_tensor(1);
    for (const auto& [path, value] : layout.values) {
      RETURN_IF_ERROR(
          ApplyAssignment(absl::StrCat(path, "=", value), &loaded.config, &loaded.origins));
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
      comparison->Step(step, report, *trainer);
    }
    return absl::OkStatus();
  }

  const RunConfig config_;
  const VerifyOptions options_;
  std::vector<ReferenceStep> reference_;
  std::optional<LayoutComparison> one_rank_;  // Of options_.dtype, unless that is f64.
};

using VerifyFn = std::function<StatusOr<LayoutVerdict>(const RunLayout&)>;

StatusOr<std::vector<LayoutVerdict>> VerifyAll(int num_ranks, const RunConfig& config,
                                               const VerifyOptions& options, const VerifyFn& verify,
                                               const ReportVerdict& report) {
  std::vector<RunLayout> layouts = options.layouts;
  if (layouts.empty()) layouts = AllLayouts(num_ranks, HasLinearAttention(config));
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

StatusOr<std::vector<LayoutVerdict>> VerifyLayouts(const RunConfig& config,
                                                   const VerifyOptions& options,
                                                   const ReportVerdict& report) {
  Verifier verifier(config, options);
  RETURN_IF_ERROR(verifier.MakeReferences());
  const auto verify = [&](const RunLayout& layout) -> StatusOr<LayoutVerdict> {
    return verifier.VerifyOnThreads(layout, options.num_ranks);
  };
  return VerifyAll(options.num_ranks, config, options, verify, report);
}

StatusOr<std::vector<LayoutVerdict>> VerifyLayoutsOn(Communicator& world, const RunConfig& config,
                                                     const VerifyOptions& options,
                                                     const ReportVerdict& report) {
  Verifier verifier(config, options);
  RETURN_IF_ERROR(verifier.MakeReferences());
  const auto verify = [&](const RunLayout& layout) { return verifier.VerifyOn(world, layout); };
  return VerifyAll(world.size(), config, options, verify, report);
}

}  // namespace trireme
