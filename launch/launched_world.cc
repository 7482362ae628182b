#include "launch/launched_world.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"

#include "core/base/params.h"

namespace trireme {
namespace {

struct Launcher {
  const char* size;
  const char* rank;
};
// srun last: under mpirun inside an allocation, SLURM's variables are those of the launcher's
// daemon.
constexpr Launcher kLaunchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
    {"PMI_SIZE", "PMI_RANK"},
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},
};

}  // namespace

LaunchedWorld ReadLaunchedWorld(const Environment& environment) {
  for (const Launcher& launcher : kLaunchers) {
    const char* text = environment(launcher.size);
    int64_t size;
    if (text == nullptr || !ParseInt(text, &size) || size < 1) continue;
    LaunchedWorld world;
    world.variable = absl::StrCat(launcher.size, "=", size);
    world.size = size;
    const char* rank = environment(launcher.rank);
    if (rank == nullptr || !ParseInt(rank, &world.rank)) world.rank = 0;
    return world;
  }
  return {};
}

LaunchedWorld ReadLaunchedWorld() {
  return ReadLaunchedWorld([](const char* name) -> const char* { return std::getenv(name); });
}

}  // namespace trireme
