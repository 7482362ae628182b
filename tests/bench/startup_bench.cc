// Seconds from the end of MPI_Init to the end of the first step of a small model: reading the
// config, making the world, the device and the data, drawing the weights, the step. One JSON line,
// of the slowest rank.
//   mpirun -n 2 build-release/bench/startup_bench --config examples/configs/tiny.textproto
//       [--set PATH=VALUE]...
// What `trireme train` does besides, the run folder and its logs, is not in it.
#include <mpi.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/time/clock.h"

#include "launch/bootstrap.h"
#include "launch/catalogue.h"
#include "launch/config.h"
#include "launch/trainer.h"

namespace trireme::bench {
namespace {

StatusOr<LoadedConfig> ReadConfig(const std::vector<std::string>& args, int64_t num_ranks) {
  std::string path = "examples/configs/tiny.textproto";
  std::vector<std::string> assignments = {"run_dir=unused"};
  for (size_t i = 0; i + 1 < args.size(); i += 2) {
    if (args[i] == "--config") path = args[i + 1];
    if (args[i] == "--set") assignments.push_back(args[i + 1]);
  }
  ASSIGN_OR_RETURN(LoadedConfig loaded, LoadConfig(path, assignments));
  RETURN_IF_ERROR(ResolveConfig(num_ranks, Catalogue(), &loaded));
  return loaded;
}

Status FirstStep(const RunConfig& config, const RankContext& rank) {
  const ComponentConfig data = ToComponentConfig(config.data().dataset());
  ASSIGN_OR_RETURN(const auto dataset,
                   MakeDataset(data.name, data.params, {config.data().sequence_length()}));
  PhaseTimer phases;
  ASSIGN_OR_RETURN(const auto trainer,
                   Trainer::Create(config, *dataset, rank.world, rank.device, phases));
  return trainer->Step().status();
}

int Run(const std::vector<std::string>& args, int64_t num_ranks, absl::Time start) {
  const StatusOr<LaunchPlan> plan = PlanLaunch({}, ReadLaunchedWorld());
  if (!plan.ok()) return UsageError(plan.status());
  const StatusOr<LoadedConfig> loaded = ReadConfig(args, num_ranks);
  return RunWorld(*plan, loaded.status(), {}, [&](const RankContext& rank) -> Status {
    RETURN_IF_ERROR(FirstStep(loaded->config, rank));
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    double slowest = seconds;
    MPI_Reduce(&seconds, &slowest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank.world.rank() == 0) {
      std::printf("{\"bench\":\"startup\",\"ranks\":%lld,\"seconds_to_first_step\":%.3f}\n",
                  static_cast<long long>(num_ranks), slowest);
    }
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  int level = 0, size = 1;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
  const absl::Time start = absl::Now();
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const int code =
      trireme::bench::Run(std::vector<std::string>(argv + 1, argv + argc), size, start);
  MPI_Finalize();
  return code;
}
