// trireme sync: when replicas synchronize, and what that sends, before anything runs.
#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/params.h"
#include "launch/bootstrap.h"
#include "launch/catalogue.h"
#include "launch/commands.h"
#include "launch/config.h"
#include "launch/step_size.h"
#include "launch/sync_plan.h"

namespace trireme {
namespace {

constexpr Flag kFlags[] = {
    {"config", "FILE", "the run"},
    {"set", "PATH=VALUE", "changes one value of the config: num_steps=1000", true},
    {"ranks", "N",
     "ranks of the world (default: those of the mesh, with 2 replicas if it has no number)"},
    {"all", nullptr, "lists every change of the period, however many there are"},
    kSmoothnessFlag,
    kMeanSmoothnessFlag,
    kCodecFlag,
    kParamFlag,
    kElementsFlag,
};

// More lines than these and periods are grouped by powers of two.
constexpr size_t kListedRuns = 32;

// Rounds that follow each other and stand on one line.
struct Line {
  RoundRun first, last;
  int64_t min_period, max_period;
};

std::vector<Line> Lines(const SyncSchedule& schedule, bool all) {
  const bool grouped = !all && schedule.runs.size() > kListedRuns;
  const auto magnitude = [](int64_t period) { return 63 - __builtin_clzll(period); };
  std::vector<Line> lines;
  for (const RoundRun& run : schedule.runs) {
    // The last round is one that the run's end has cut.
    const bool is_last = &run == &schedule.runs.back();
    if (grouped && !is_last && !lines.empty() &&
        magnitude(lines.back().last.period) == magnitude(run.period)) {
      Line& line = lines.back();
      line.last = run;
      line.min_period = std::min(line.min_period, run.period);
      line.max_period = std::max(line.max_period, run.period);
    } else {
      lines.push_back({run, run, run.period, run.period});
    }
  }
  return lines;
}

std::string RangeText(int64_t first, int64_t last) {
  return first == last ? absl::StrCat(first) : absl::StrCat(first, "-", last);
}

std::string ScheduleText(const SyncSchedule& schedule, bool all) {
  std::string text = absl::StrFormat("  %-17s %-21s %-13s %s\n", "rounds", "steps", "period",
                                     "learning rate, first to last");
  for (const Line& line : Lines(schedule, all)) {
    const double first = line.first.first_learning_rate, last = line.last.last_learning_rate;
    absl::StrAppendFormat(
        &text, "  %-17s %-21s %-13s %s\n",
        RangeText(line.first.first_round, line.last.first_round + line.last.num_rounds - 1),
        RangeText(line.first.first_step, line.last.end_step() - 1),
        RangeText(line.min_period, line.max_period),
        first == last ? absl::StrFormat("%.4g", first)
                      : absl::StrFormat("%.4g to %.4g", first, last));
  }
  return text;
}

std::string ComponentText(const ComponentConfig& component) {
  if (component.params.empty()) return component.name;
  return absl::StrCat(component.name, " (",
                      absl::StrJoin(component.params, ", ", absl::PairFormatter(" ")), ")");
}

std::string RowText(const ExchangePlan& exchange, const SyncPlan& plan, bool all) {
  const ExchangeSpec& spec = exchange.spec;
  std::string text = absl::StrCat(ExchangePointName(spec.point), " of ", spec.pattern);
  if (!spec.state.empty()) absl::StrAppend(&text, ", ", spec.state);
  absl::StrAppend(&text, ": ", ComponentText(spec.rule), ", codec ", ComponentText(spec.codec),
                  ", mixer ", ComponentText(spec.mixer));
  if (spec.point == ExchangePoint::kDifference) {
    absl::StrAppend(&text, ", outer ", ComponentText(spec.outer));
  }
  absl::StrAppend(&text, "\n");
  for (size_t f = 0; f < exchange.fragments.size(); ++f) {
    const FragmentPlan& fragment = exchange.fragments[f];
    if (spec.fragments > 1) {
      absl::StrAppendFormat(&text, " fragment %d of %d\n", f + 1, spec.fragments);
    }
    if (!fragment.schedule.has_value()) {
      absl::StrAppend(&text, "  its periods depend on the loss: they are known when it runs\n");
    } else {
      absl::StrAppend(&text, ScheduleText(*fragment.schedule, all));
      absl::StrAppendFormat(&text, "  %d exchanges in %d steps\n",
                            fragment.schedule->num_exchanges(), plan.num_steps);
    }
    absl::StrAppendFormat(&text, "  %d elements, %d bytes an exchange from all replicas\n",
                          fragment.num_parameters, fragment.sent_bytes);
  }
  return text + "\n";
}

std::string PlanText(const SyncPlan& plan, bool all) {
  std::string text = absl::StrFormat("%d replicas, %d steps, %d of them warm-up\n\n",
                                     plan.num_replicas, plan.num_steps, plan.warmup_steps);
  for (const ExchangePlan& exchange : plan.exchanges) {
    absl::StrAppend(&text, RowText(exchange, plan, all));
  }
  absl::StrAppendFormat(&text, "data parallelism: %d elements, %d bytes a step from all replicas\n",
                        plan.num_parameters, plan.data_parallel_bytes);
  const std::optional<double> share = plan.share();
  if (!share.has_value()) {
    absl::StrAppend(&text, "the share of its traffic depends on the loss\n");
  } else if (plan.num_replicas > 1) {
    absl::StrAppendFormat(&text, "this run: %.3f %% of its traffic\n", 100 * *share);
  }
  return text;
}

// What the mesh names, with 2 replicas where it leaves them open.
int64_t RanksOf(const RunConfig::Mesh& mesh) {
  const int64_t replicas = mesh.replica() > 0 ? mesh.replica() : 2;
  return replicas * mesh.pipeline() * mesh.shard() * mesh.sequence() * mesh.tensor();
}

Status CheckUsage(const CommandLine& line) {
  if (line.positional()[0] == "step_size") return CheckStepSizeUsage(line);
  if (line.positional()[0] != "schedule") {
    return absl::InvalidArgumentError(UnknownNameMessage(
        "action of sync", line.positional()[0], std::vector<std::string>{"schedule", "step_size"}));
  }
  if (!line.Has("config")) {
    return absl::InvalidArgumentError("sync schedule needs --config FILE");
  }
  return line.Int("ranks", 1, 1).status();
}

StatusOr<std::string> Describe(const CommandLine& line) {
  ASSIGN_OR_RETURN(LoadedConfig loaded, LoadConfig(line.String("config"), line.All("set")));
  ASSIGN_OR_RETURN(const int64_t num_ranks, line.Int("ranks", RanksOf(loaded.config.mesh()), 1));
  RETURN_IF_ERROR(ResolveConfig(num_ranks, Catalogue(), &loaded));
  const RunConfig& config = loaded.config;
  const ComponentConfig data = ToComponentConfig(config.data().dataset());
  ASSIGN_OR_RETURN(const auto dataset,
                   MakeDataset(data.name, data.params, {config.data().sequence_length()}));
  ASSIGN_OR_RETURN(const SyncPlan plan, PlanSync(config, DataShapeOf(*dataset)));
  return PlanText(plan, line.Has("all"));
}

int RunSync(const CommandLine& line) {
  const Status usage = CheckUsage(line);
  if (!usage.ok()) return UsageError(usage);
  const StatusOr<std::string> text =
      line.positional()[0] == "step_size" ? StepSizeText(line) : Describe(line);
  if (text.ok()) {
    std::fputs(text->c_str(), stdout);
    return kExitDone;
  }
  PrintError(text.status());
  return kExitError;
}

}  // namespace

Command SyncCommand() {
  return {{"sync", "Shows when the replicas of a run synchronize, and what they send.",
           "schedule|step_size", 1, 1, kFlags,
           "trireme sync schedule --config examples/configs/qsr_vit.textproto"},
          &RunSync};
}

}  // namespace trireme
