// trireme verify: the user's model under every layout, each compared with one rank.
#include <algorithm>
#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "launch/bootstrap.h"
#include "launch/commands.h"
#include "launch/config.h"
#include "launch/verify_layouts.h"

namespace trireme {
namespace {

constexpr Flag kFlags[] = {
    {"config", "FILE",
     "the run; its mesh, dtype and run_dir do not matter. With exchanges mesh.replica does: each "
     "replica is compared with the same one in a run with replicas of one rank"},
    {"set", "PATH=VALUE", "changes one value of the config", true},
    {"ranks", "N", "ranks, as threads of this process (8)"},
    {"mpi", nullptr, "the ranks are the processes that mpirun started instead"},
    {"dtype", "f64|f32",
     "f64 (the default): equal within 1e-10; f32: at most twice as far from f64 as one rank. With "
     "exchanges f64: only ties within its rounding can fall on another side of a codec's threshold "
     "(top_k, sign, quantizers), and would be shown"},
    {"device", "NAME", "of the ranks: cpu (the default) or cuda; the one rank is on the CPU"},
    {"steps", "N",
     "steps of training that are compared (2; 1 in f32; with exchanges one more than two of each "
     "take)"},
    {"pairwise", nullptr, "few layouts in which every pair of settings appears, instead of all"},
    {"all", nullptr, "a line for each layout, also for those that are equal"},
};

void Print(const LayoutVerdict& verdict, bool all) {
  const char* const outcomes[] = {"equal", "DIFFERS", "skipped"};
  if (!all && verdict.outcome != LayoutVerdict::Outcome::kDiffers) return;
  absl::PrintF("%-8s %-9s %s%s%s\n", outcomes[static_cast<int>(verdict.outcome)],
               verdict.outcome == LayoutVerdict::Outcome::kSkipped
                   ? ""
                   : absl::StrFormat("%.1e", verdict.worst),
               verdict.layout.ToString(), verdict.reason.empty() ? "" : ": ", verdict.reason);
  std::fflush(stdout);
}

struct Request {
  RunConfig config;
  VerifyOptions options;
};

StatusOr<Request> ReadRequest(const CommandLine& line) {
  if (line.positional()[0] != "layouts") {
    return absl::InvalidArgumentError(
        absl::StrCat("verify has 'layouts', not '", line.positional()[0], "'"));
  }
  if (!line.Has("config")) return absl::InvalidArgumentError("verify layouts needs --config FILE");
  if (line.Has("mpi") && line.Has("ranks")) {
    return absl::InvalidArgumentError(
        "--ranks are threads; with --mpi the processes are the ranks");
  }
  Request request;
  ASSIGN_OR_RETURN(const int64_t ranks, line.Int("ranks", 8, 1));
  request.options.num_ranks = static_cast<int>(ranks);
  request.options.pairwise = line.Has("pairwise");
  request.options.device = line.String("device", "cpu");
  ASSIGN_OR_RETURN(request.options.dtype, ComputeDType(line.String("dtype", "f64")));
  ASSIGN_OR_RETURN(const int64_t steps,
                   line.Int("steps", request.options.dtype == DType::kF64 ? 0 : 1, 1));
  request.options.num_steps = static_cast<int>(steps);
  if (request.options.dtype == DType::kBF16) {
    return absl::InvalidArgumentError("--dtype is f64 or f32: bf16 has no bound to hold");
  }
  ASSIGN_OR_RETURN(const LoadedConfig loaded, LoadConfig(line.String("config"), line.All("set")));
  request.config = loaded.config;
  return request;
}

Status Summarize(const std::vector<LayoutVerdict>& verdicts, const Request& request, int num_ranks,
                 bool print) {
  const char* reference =
      ReplicasDecide(request.config) ? "the same replicas of one rank each" : "one rank";
  int counts[3] = {};
  double worst = 0;
  std::map<std::string, int> reasons;
  for (const LayoutVerdict& verdict : verdicts) {
    ++counts[static_cast<int>(verdict.outcome)];
    if (verdict.outcome == LayoutVerdict::Outcome::kEqual) worst = std::max(worst, verdict.worst);
    if (verdict.outcome == LayoutVerdict::Outcome::kSkipped) ++reasons[verdict.reason];
  }
  if (print) {
    const std::string bound =
        request.options.dtype == DType::kF64
            ? absl::StrFormat("equal to %s within %.1e", reference, worst)
            : absl::StrFormat("at most %.2f times as far from f64 as one rank", worst);
    absl::PrintF("%d layouts of %d ranks: %d %s, %d differ, %d skipped\n", verdicts.size(),
                 num_ranks, counts[0], bound, counts[1], counts[2]);
    for (const auto& [reason, count] : reasons) absl::PrintF("  %4d skipped: %s\n", count, reason);
    std::fflush(stdout);
  }
  if (counts[1] == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(counts[1], " layouts differ from ", reference));
}

Status VerifyThreads(const Request& request, bool all) {
  ASSIGN_OR_RETURN(const std::vector<LayoutVerdict> verdicts,
                   VerifyLayouts(request.config, request.options,
                                 [all](const LayoutVerdict& verdict) { Print(verdict, all); }));
  return Summarize(verdicts, request, request.options.num_ranks, true);
}

Status VerifyProcesses(const Request& request, bool all, Communicator& world) {
  const bool prints = world.rank() == 0;
  ASSIGN_OR_RETURN(
      const std::vector<LayoutVerdict> verdicts,
      VerifyLayoutsOn(world, request.config, request.options, [&](const LayoutVerdict& verdict) {
        if (prints) Print(verdict, all);
      }));
  return Summarize(verdicts, request, world.size(), prints);
}

int RunVerify(const CommandLine& line) {
  const StatusOr<Request> request = ReadRequest(line);
  if (!request.ok()) return UsageError(request.status());
  const bool all = line.Has("all");
  if (!line.Has("mpi")) {
    const Status status = VerifyThreads(*request, all);
    if (!status.ok()) PrintError(status);
    return status.ok() ? kExitDone : kExitError;
  }
  const StatusOr<LaunchPlan> plan = PlanLaunch({}, ReadLaunchedWorld());
  if (!plan.ok()) return UsageError(plan.status());
  return RunWorld(*plan, absl::OkStatus(), {}, [&](const RankContext& rank) {
    return VerifyProcesses(*request, all, rank.world);
  });
}

}  // namespace

Command VerifyCommand() {
  return {{"verify", "Trains under every layout and compares each with one rank.", "layouts", 1, 1,
           kFlags, "trireme verify layouts --config examples/configs/verify.textproto --ranks 8"},
          &RunVerify};
}

}  // namespace trireme
