// How ranks come to be: processes of an MPI launcher, threads of this process, or this process
// alone.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/status.h"
#include "core/device/device.h"
#include "launch/launched_world.h"
#include "launch/rank_device.h"
#include "parallel/comm/communicator.h"

namespace trireme {

struct LaunchOptions {
  int64_t ranks = 0;    // --ranks: threads of this process; 0: not given.
  bool single = false;  // --single: one rank, whatever the environment says.
};

enum class WorldKind { kSelf, kThreads, kMpi };

struct LaunchPlan {
  WorldKind kind = WorldKind::kSelf;
  int64_t num_ranks =
      1;             // Under kMpi what the launcher said; the world itself is checked against it.
  int64_t rank = 0;  // Under kMpi, as the launcher said.
  std::string launcher;  // What said so, for messages.
};

// INVALID_ARGUMENT when --ranks comes with a launched world or with --single.
StatusOr<LaunchPlan> PlanLaunch(const LaunchOptions& options, const LaunchedWorld& launched);

// FAILED_PRECONDITION when the world has one rank though the launcher started several: each process
// would train alone, on the same data, into the same folder.
Status CheckWorldSize(const LaunchPlan& plan, int64_t world_size);

// The processors a rank may run on, and its machine.
struct RankPlacement {
  uint64_t host = 0;
  std::array<uint64_t, 16> cpus = {};  // A bit each, 1024 at most.

  int num_cpus() const;
};
RankPlacement ThisPlacement();

// The processors of the rank divided by the ranks of its machine that may run on some of them too,
// at least one.
int DefaultThreads(absl::Span<const RankPlacement> placements, int rank);
// A line of warning when `threads` of each rank are more than the rank's share; else "".
std::string ThreadsWarning(absl::Span<const RankPlacement> placements, int rank, int threads);

struct RankContext {
  Communicator& world;  // Of tensors on the host: agreements, checkpoints.
  Communicator&
      tensor_world;  // Of tensors on the device; the same ranks, on the CPU the same object.
  Device& device;
  std::vector<std::string>
      remarks;  // Lines for the user, about what was chosen. Rank 0 tells them.
};

struct WorldOptions {
  CommOptions comm = {};
  DeviceChoice device = {};
  int64_t threads = 0;  // Of each rank; 0: DefaultThreads.
};

// Makes the world and runs fn on every rank of this process; returns the exit code. `ready` is what
// this process found out before (its config, say): when it is not OK on some rank, fn runs on none.
//
// An error ends the whole world within seconds. The first rank that has one prints it, as the last
// line; ranks that only hear of it are silent.
int RunWorld(const LaunchPlan& plan, const Status& ready, const WorldOptions& options,
             const std::function<Status(const RankContext& rank)>& fn);

// "trireme: INVALID_ARGUMENT: ..." on stderr, in one write.
void PrintError(const Status& status);

// For what is wrong with the command line: prints the error and returns the exit code. Under a
// launcher every process comes to the same conclusion, and one says it.
int UsageError(const Status& status);

}  // namespace trireme
