// What the environment says of the launcher that started this process. Only hints: who a rank is
// comes from MPI alone. They tell whether to start MPI at all, how many ranks to check a config for
// before that, and when MPI was started the wrong way (every process then believes to be a world of
// one).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace trireme {

struct LaunchedWorld {
  std::string variable;  // What said so, "OMPI_COMM_WORLD_SIZE=4"; empty: nothing did.
  int64_t size = 1;
  int64_t rank = 0;
  bool launched() const { return !variable.empty(); }
};

using Environment = std::function<const char*(const char* name)>;

// Open MPI, MPICH and PMI launchers, srun. A SLURM batch script outside srun is no launcher.
LaunchedWorld ReadLaunchedWorld(const Environment& environment);
LaunchedWorld ReadLaunchedWorld();  // Of this process.

}  // namespace trireme
