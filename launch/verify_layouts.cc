#include "launch/verify_layouts.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <mutex>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/ops/devices.h"
#include "launch/catalogue.h"
#include "launch/config.h"
#include "launch/config_reader.h"
#include "parallel/comm/local.h"

namespace trireme {
namespace {

// Rows of a hidden state, by the (sample, position) of their tokens.
using HiddenRows = std::map<std::pair<int64_t, int64_t>, std::vector<double>>;

// A step of the run on one rank: whole tensors, by unit or parameter.
struct ReferenceStep {
  std::map<int, HiddenRows> hidden;
  double loss = 0, grad_norm = 0;
  std::map<std::string, std::vector<double>> gradients, weights;
};

// Where in a run something differs: what comes first is the cause.
enum class Phase { kForward, kLoss, kBackward, kNorm, kUpdate };
struct Difference {
  std::tuple<int64_t, Phase, int> place;  // Step, phase, and the order in it.
  std::string what;
};

// The rows of a probed output on this rank, each with its token.
void ForEachRow(const Tensor& output, const TokenLayout& layout,
                const std::function<void(std::pair<int64_t, int64_t>, std::vector<double>)>& fn) {
  const std::vector<double> values = output.ToVector(), samples = layout.sample.ToVector(),
                            positions = layout.position.ToVector();
  const size_t n = samples.size(), width = n == 0 ? 0 : values.size() / n;
  for (size_t i = 0; i < n; ++i) {
    fn({static_cast<int64_t>(samples[i]), static_cast<int64_t>(positions[i])},
       std::vector<double>(values.begin() + i * width, values.begin() + (i + 1) * width));
  }
}

// What one rank of a layout finds different from the reference.
class Comparison {
 public:
  Comparison(const std::vector<ReferenceStep>& reference, double tolerance)
      : reference_(reference), tolerance_(tolerance) {}

  void Hidden(int64_t step, int unit, const Tensor& output, const TokenLayout& layout) {
    const HiddenRows& rows = reference_[step].hidden.at(unit);
    double largest = 0, distance = 0;
    for (const auto& [token, row] : rows) largest = std::max(largest, LargestOf(row));
    ForEachRow(output, layout, [&](std::pair<int64_t, int64_t> token, const std::vector<double>& row) {
      const auto it = rows.find(token);
      distance = std::max(distance, it == rows.end() ? INFINITY : DistanceOf(row, it->second));
    });
    Note({step, Phase::kForward, unit}, distance, largest, absl::StrCat("output of unit ", unit));
  }

  void Step(int64_t step, const StepReport& report, Trainer& trainer) {
    const ReferenceStep& expected = reference_[step];
    Note({step, Phase::kLoss, 0}, DistanceOf({report.loss}, {expected.loss}), std::abs(expected.loss),
         "loss");
    Note({step, Phase::kNorm, 0}, DistanceOf({report.grad_norm}, {expected.grad_norm}),
         expected.grad_norm, "gradient norm");
    const auto& all = trainer.model().parameters().parameters();
    for (size_t i = 0; i < all.size(); ++i) {
      const Parameter& parameter = *all[i];
      const std::string& path = parameter.spec.path;
      Part(step, Phase::kBackward, parameter, trainer.gradients().of(i), expected.gradients.at(path),
           absl::StrCat("gradient of ", path));
      Part(step, Phase::kUpdate, parameter, parameter.owned, expected.weights.at(path),
           absl::StrCat("weight ", path));
    }
  }

  double worst() const { return worst_; }
  const std::optional<Difference>& first() const { return first_; }

 private:
  static double LargestOf(const std::vector<double>& values) {
    double largest = 0;
    for (const double value : values) largest = std::max(largest, std::abs(value));
    return largest;
  }
  // The largest difference; infinite when there is a NaN.
  static double DistanceOf(const std::vector<double>& a, const std::vector<double>& b) {
    if (a.size() != b.size()) return INFINITY;
    double distance = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const double d = std::abs(a[i] - b[i]);
      distance = std::isnan(d) ? INFINITY : std::max(distance, d);
    }
    return distance;
  }

  // This rank's box of a parameter's tensor.
  void Part(int64_t step, Phase phase, const Parameter& parameter, const Tensor& mine,
            const std::vector<double>& whole, std::string what) {
    const Shape& global = parameter.spec.global;
    const Box& box = parameter.owned_box;
    if (box.numel() == 0) return;
    Shape zero = box.begin;
    for (int i = 0; i < zero.rank(); ++i) zero[i] = 0;
    std::vector<double> expected(box.numel());
    const BoxRuns runs(global, box.begin, box.size, zero, box.size);
    for (int64_t k = 0; k < runs.count(); ++k) {
      std::copy_n(whole.begin() + runs[k].source, runs.length(), expected.begin() + runs[k].dest);
    }
    Note({step, phase, -parameter.spec.units.front()}, DistanceOf(mine.ToVector(), expected),
         LargestOf(whole), std::move(what));
  }

  void Note(std::tuple<int64_t, Phase, int> place, double distance, double largest, std::string what) {
    const double relative = distance == 0 ? 0 : distance / std::max(largest, 1e-300);
    worst_ = std::max(worst_, relative);
    if (relative <= tolerance_ || (first_.has_value() && first_->place <= place)) return;
    const char* const phases[] = {"forward", "forward", "backward", "backward", "update"};
    first_ = {place, absl::StrFormat("step %d, %s: %s is off by %.1e", std::get<0>(place) + 1,
                                     phases[static_cast<int>(std::get<1>(place))], what, relative)};
  }

  const std::vector<ReferenceStep>& reference_;
  const double tolerance_;
  double worst_ = 0;
  std::optional<Difference> first_;
};

class Verifier {
 public:
  Verifier(const RunConfig& config, const VerifyOptions& options) : config_(config), options_(options) {}

  Status MakeReference() {
    ASSIGN_OR_RETURN(const RunConfig config, ConfigOf({}, 1));
    reference_.resize(options_.num_steps);
    const auto device = MakeCpuDevice();
    const auto world = MakeSelfCommunicator();
    PhaseTimer phases;
    ASSIGN_OR_RETURN(const auto dataset, DatasetOf(config));
    ASSIGN_OR_RETURN(const auto trainer, Trainer::Create(config, *dataset, *world, *device, phases,
                                                         options_.model));
    for (ReferenceStep& step : reference_) {
      trainer->executor().set_probe([&](int unit, const Tensor& output, const Batch& batch) {
        ForEachRow(output, batch.layout, [&](std::pair<int64_t, int64_t> token, std::vector<double> row) {
          step.hidden[unit][token] = std::move(row);
        });
      });
      ASSIGN_OR_RETURN(const StepReport report, trainer->Step());
      step.loss = report.loss;
      step.grad_norm = report.grad_norm;
      const auto& all = trainer->model().parameters().parameters();
      for (size_t i = 0; i < all.size(); ++i) {
        step.gradients[all[i]->spec.path] = trainer->gradients().of(i).ToVector();
        step.weights[all[i]->spec.path] = all[i]->owned.ToVector();
      }
    }
    return absl::OkStatus();
  }

  LayoutVerdict Verify(const RunLayout& layout, int num_ranks) const {
    LayoutVerdict verdict;
    verdict.layout = layout;
    const StatusOr<RunConfig> config = ConfigOf(layout, num_ranks);
    std::atomic<bool> made = false;
    std::mutex mutex;
    std::optional<Difference> first;
    Status status = config.status();
    if (status.ok()) {
      CommOptions comm;
      comm.deadline = absl::Seconds(60);
      status = RunOnRanks(num_ranks, comm, [&](Communicator& world) -> Status {
        Comparison comparison(reference_, options_.tolerance);
        RETURN_IF_ERROR(RunRank(*config, world, &made, &comparison));
        const std::lock_guard<std::mutex> lock(mutex);
        verdict.worst = std::max(verdict.worst, comparison.worst());
        const auto& mine = comparison.first();
        if (mine.has_value() && (!first.has_value() || mine->place < first->place)) first = mine;
        return absl::OkStatus();
      });
    }
    if (!status.ok()) {
      // Found out before anything ran: this model has no such layout.
      const bool refused = !made && absl::IsInvalidArgument(status);
      verdict.outcome =
          refused ? LayoutVerdict::Outcome::kSkipped : LayoutVerdict::Outcome::kDiffers;
      verdict.reason = std::string(status.message());
      // Every rank refuses for the same reason; which was first does not matter.
      if (refused && absl::StartsWith(verdict.reason, "rank ")) {
        verdict.reason.erase(0, verdict.reason.find(": ") + 2);
      }
    } else if (first.has_value()) {
      verdict.outcome = LayoutVerdict::Outcome::kDiffers;
      verdict.reason = first->what;
    }
    return verdict;
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
        value = "1";
      }
      if (smaller == num_ranks) continue;
      if (Verify(without, smaller).outcome != LayoutVerdict::Outcome::kEqual) continue;
      absl::StrAppend(&axes, axes.empty() ? "" : "+", AxisName(axis));
    }
    return axes;
  }

 private:
  StatusOr<RunConfig> ConfigOf(const RunLayout& layout, int num_ranks) const {
    LoadedConfig loaded{config_, {}};
    loaded.config.set_dtype("f64");
    RunConfig::Mesh& mesh = *loaded.config.mutable_mesh();
    mesh.set_replica(num_ranks);
    mesh.set_pipeline(1), mesh.set_shard(1), mesh.set_sequence(1), mesh.set_tensor(1);
    for (const auto& [path, value] : layout.values) {
      RETURN_IF_ERROR(ApplyAssignment(absl::StrCat(path, "=", value), &loaded.config, &loaded.origins));
    }
    loaded.origins.clear();
    RETURN_IF_ERROR(ResolveConfig(num_ranks, Catalogue(), &loaded));
    return loaded.config;
  }

  static StatusOr<std::unique_ptr<Dataset>> DatasetOf(const RunConfig& config) {
    const ComponentConfig data = ToComponentConfig(config.data().dataset());
    return MakeDataset(data.name, data.params, {config.data().sequence_length()});
  }

  Status RunRank(const RunConfig& config, Communicator& world, std::atomic<bool>* made,
                 Comparison* comparison) const {
    const auto device = MakeCpuDevice({.num_threads = 1});
    PhaseTimer phases;
    ASSIGN_OR_RETURN(const auto dataset, DatasetOf(config));
    ASSIGN_OR_RETURN(const auto trainer,
                     Trainer::Create(config, *dataset, world, *device, phases, options_.model));
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
};

}  // namespace

StatusOr<std::vector<LayoutVerdict>> VerifyLayouts(
    const RunConfig& config, const VerifyOptions& options,
    const std::function<void(const LayoutVerdict&)>& report) {
  Verifier verifier(config, options);
  RETURN_IF_ERROR(verifier.MakeReference());
  std::vector<RunLayout> layouts = AllLayouts(options.num_ranks);
  if (options.pairwise) layouts = PairwiseCover(layouts);
  std::vector<LayoutVerdict> verdicts;
  for (const RunLayout& layout : layouts) {
    LayoutVerdict verdict = verifier.Verify(layout, options.num_ranks);
    if (verdict.outcome == LayoutVerdict::Outcome::kDiffers) {
      const std::string axes = verifier.Blame(layout, options.num_ranks);
      if (!axes.empty()) absl::StrAppend(&verdict.reason, " (not without the ", axes, " axis)");
    }
    if (report != nullptr) report(verdict);
    verdicts.push_back(std::move(verdict));
  }
  return verdicts;
}

}  // namespace trireme
