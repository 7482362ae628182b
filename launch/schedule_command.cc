// trireme schedule: what a pipeline schedule does.
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/params.h"
#include "core/io/file.h"
#include "launch/bootstrap.h"
#include "launch/commands.h"
#include "parallel/pipeline/grid.h"
#include "parallel/pipeline/lower.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/simulate.h"
#include "parallel/pipeline/verify.h"

namespace trireme {
namespace {

constexpr Flag kFlags[] = {
    {"stages", "P", "the ranks of the pipeline"},
    {"microbatches", "M", "the micro-batches of a step"},
    {"chunks", "V", "stages of each rank (default: the schedule's own)"},
    {"svg", "FILE", "draws the grid there as well"},
};

constexpr char kLegend[] =
    "F forward, I input gradient, W weight gradient, each 1 for a micro-batch on a whole rank; B = "
    "I "
    "and W\n";
constexpr char kChunkLegend[] =
    "F3.1: micro-batch 3 in chunk 1, which takes the chunk's part of it\n";

// What is wrong with the command line; no plan is made.
Status CheckUsage(const CommandLine& line) {
  if (line.positional()[0] != "show") {
    return absl::InvalidArgumentError(UnknownNameMessage("action of schedule", line.positional()[0],
                                                         std::vector<std::string>{"show"}));
  }
  for (const char* flag : {"stages", "microbatches"}) {
    if (!line.Has(flag)) {
      return absl::InvalidArgumentError(absl::StrCat("schedule show needs --", flag));
    }
  }
  for (const char* flag : {"stages", "microbatches", "chunks"}) {
    RETURN_IF_ERROR(line.Int(flag, 1, 1).status());
  }
  return absl::OkStatus();
}

std::string Summary(const Simulation& simulation, int64_t work) {
  const double idle = simulation.makespan - work;
  std::string text =
      absl::StrFormat("makespan %g: work %d, idle %g (%.1f %%)\n\n", simulation.makespan, work,
                      idle, 100 * idle / simulation.makespan);
  absl::StrAppend(&text, "rank  idle  of it between its actions  peak micro-batches in flight\n");
  for (size_t rank = 0; rank < simulation.ranks.size(); ++rank) {
    const RankSimulation& of_rank = simulation.ranks[rank];
    absl::StrAppendFormat(&text, "%4d %5g %25g %29g\n", rank, of_rank.idle, of_rank.idle_inside,
                          of_rank.peak_in_flight);
  }
  return text;
}

Status Show(const CommandLine& line) {
  const std::string& name = line.positional()[1];
  ASSIGN_OR_RETURN(const int64_t num_ranks, line.Int("stages", 1, 1));
  ASSIGN_OR_RETURN(const int64_t num_micro_batches, line.Int("microbatches", 1, 1));
  ParamMap params;
  if (line.Has("chunks")) params["chunks"] = line.String("chunks");
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(name, num_ranks, num_micro_batches, params));
  const LoweredPlan lowered = Lower(plan);
  RETURN_IF_ERROR(Annotate(Verify(lowered), name));
  const Simulation simulation = Simulate(lowered);

  const std::string title = absl::StrFormat("%s: ranks %d, micro-batches %d, chunks a rank %d",
                                            name, num_ranks, num_micro_batches, plan.num_chunks);
  if (line.Has("svg")) {
    RETURN_IF_ERROR(WriteFileAtomically(line.String("svg"), GridSvg(plan, simulation, title)));
  }
  const std::string text =
      absl::StrCat(title, "\n", kLegend, plan.num_chunks > 1 ? kChunkLegend : "", "\n",
                   GridText(plan, simulation), "\n", Summary(simulation, 3 * num_micro_batches));
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

int RunSchedule(const CommandLine& line) {
  const Status usage = CheckUsage(line);
  if (!usage.ok()) return UsageError(usage);
  const Status status = Show(line);
  if (status.ok()) return kExitDone;
  PrintError(status);
  return kExitError;
}

}  // namespace

Command ScheduleCommand() {
  return {
      {"schedule", "Shows when a pipeline schedule (of trireme list pipeline_schedule) runs what.",
       "show NAME", 2, 2, kFlags,
       "trireme schedule show zb_v --stages 4 --microbatches 8 --svg zb_v.svg"},
      &RunSchedule};
}

}  // namespace trireme
