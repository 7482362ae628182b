// trireme train: a run from its config to its end.
#include <atomic>
#include <cstdio>

#include "absl/strings/str_cat.h"

#include "launch/bootstrap.h"
#include "launch/catalogue.h"
#include "launch/commands.h"
#include "launch/config.h"
#include "launch/stop_signal.h"
#include "launch/train.h"

namespace trireme {
namespace {

constexpr Flag kFlags[] = {
    {"config", "FILE", "the run, a text proto (launch/run_config.proto)"},
    {"set", "PATH=VALUE", "changes one value of the config: optimizer.beta1=0.95", true},
    {"run_dir", "DIR", "as --set run_dir=DIR: where metrics, logs and checkpoints go"},
    {"threads", "N", "as --set threads=N: threads of each rank"},
    {"ranks", "N", "trains on N ranks that are threads of this process; not under mpirun"},
    {"resume", "auto|never|DIR",
     "auto (the default) continues the run in run_dir, if there is one of the same config; never "
     "refuses a run_dir with a run; DIR starts from that checkpoint"},
    {"single", nullptr, "one rank, whatever the launcher says"},
    {"print_config", nullptr, "prints the resolved config, each value with its origin, and ends"},
};

// The config with every flag that is a value of it, resolved for the ranks that will be.
StatusOr<LoadedConfig> LoadAndResolve(const CommandLine& line, int64_t num_ranks) {
  std::vector<std::string> assignments = line.All("set");
  for (const char* flag : {"run_dir", "threads"}) {
    if (line.Has(flag)) assignments.push_back(absl::StrCat(flag, "=", line.String(flag)));
  }
  ASSIGN_OR_RETURN(LoadedConfig loaded, LoadConfig(line.String("config"), assignments));
  RETURN_IF_ERROR(ResolveConfig(num_ranks, Catalogue(), &loaded));
  return loaded;
}

StatusOr<LaunchPlan> PlanOf(const CommandLine& line) {
  if (!line.Has("config")) return absl::InvalidArgumentError("train needs --config FILE");
  ASSIGN_OR_RETURN(const int64_t ranks, line.Int("ranks", 0, 1));
  return PlanLaunch({ranks, line.Has("single")}, ReadLaunchedWorld());
}

int PrintResolved(const LaunchPlan& plan, const StatusOr<LoadedConfig>& loaded) {
  if (plan.rank == 0 && !loaded.ok()) PrintError(loaded.status());
  if (plan.rank == 0 && loaded.ok()) std::fputs(PrintConfig(*loaded, true).c_str(), stdout);
  return loaded.ok() ? kExitDone : kExitError;
}

int RunTrain(const CommandLine& line) {
  const StatusOr<LaunchPlan> plan = PlanOf(line);
  if (!plan.ok()) return UsageError(plan.status());
  const StatusOr<LoadedConfig> loaded = LoadAndResolve(line, plan->num_ranks);
  if (line.Has("print_config")) return PrintResolved(*plan, loaded);
  WorldOptions options;
  if (loaded.ok()) {
    options.comm.deadline = absl::Seconds(loaded->config.deadline_seconds());
    options.threads = loaded->config.threads();
    options.device = {loaded->config.device(), loaded->config.allow_tf32()};
  }
  InstallStopSignals();
  std::atomic<bool> stopped = false;
  const int code =
      RunWorld(*plan, loaded.status(), options, [&](const RankContext& rank) -> Status {
        ASSIGN_OR_RETURN(const RunEnding ending,
                         Train(*loaded, line.String("resume", "auto"), rank));
        if (ending == RunEnding::kStopped) stopped = true;
        return absl::OkStatus();
      });
  return code == kExitDone && stopped ? kExitStopped : code;
}

}  // namespace

Command TrainCommand() {
  return {
      {"train", "Trains a model, or goes on training it.", "", 0, 0, kFlags,
       "mpirun -n 4 trireme train --config examples/configs/demo.textproto --set num_steps=200"},
      &RunTrain};
}

}  // namespace trireme
