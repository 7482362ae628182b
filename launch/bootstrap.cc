#include "launch/bootstrap.h"

#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "launch/agreement.h"
#include "launch/command_line.h"
#include "parallel/comm/local.h"
#include "parallel/comm/mpi.h"

namespace trireme {
namespace {

constexpr int kMaxCpus = 1024;

int RanksSharing(absl::Span<const RankPlacement> placements, int rank) {
  int sharing = 0;
  for (const RankPlacement& other : placements) {
    bool shared = other.host == placements[rank].host;
    bool overlap = false;
    for (size_t i = 0; i < other.cpus.size(); ++i) {
      overlap = overlap || (other.cpus[i] & placements[rank].cpus[i]) != 0;
    }
    sharing += shared && overlap;
  }
  return std::max(sharing, 1);
}

// How many lower ranks are on the same machine.
int RankOnHost(absl::Span<const RankPlacement> placements, int rank) {
  int number = 0;
  for (int other = 0; other < rank; ++other) {
    number += placements[other].host == placements[rank].host;
  }
  return number;
}

StatusOr<std::vector<RankPlacement>> GatherPlacements(Communicator& world) {
  const RankPlacement mine = ThisPlacement();
  ASSIGN_OR_RETURN(
      const std::vector<std::string> texts,
      GatherTexts(world, absl::string_view(reinterpret_cast<const char*>(&mine), sizeof(mine))));
  std::vector<RankPlacement> placements(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].size() != sizeof(RankPlacement)) {
      return absl::InternalError("the ranks run different versions of Trireme");
    }
    std::memcpy(&placements[i], texts[i].data(), sizeof(RankPlacement));
  }
  return placements;
}

// One rank, from its world on.
Status RunRank(Communicator& world, const WorldOptions& options,
               const std::function<Status(const RankContext&)>& fn) {
  ASSIGN_OR_RETURN(const std::vector<RankPlacement> placements, GatherPlacements(world));
  return CatchFailure([&] {
    const int threads = options.threads > 0 ? static_cast<int>(options.threads)
                                            : DefaultThreads(placements, world.rank());
    const RankDevice made = ValueOrThrow(MakeRankDevice(
        world, options.device, RankOnHost(placements, world.rank()), threads, options.comm));
    std::vector<std::string> remarks = {made.remark,
                                        ThreadsWarning(placements, world.rank(), threads)};
    std::erase(remarks, "");
    ThrowIfError(fn({world, made.communicator == nullptr ? world : *made.communicator, *made.device,
                     std::move(remarks)}));
  });
}

int ReportAndReturn(const Status& status) {
  if (status.ok()) return kExitDone;
  PrintError(status);
  return kExitError;
}

// The rank to speak of an error that every rank knows of: the lowest that has one.
StatusOr<int> FirstUnready(Communicator& world, const Status& ready) {
  ASSIGN_OR_RETURN(const std::vector<std::string> errors,
                   GatherTexts(world, ready.ok() ? "" : ready.ToString()));
  const auto first = std::find_if(errors.begin(), errors.end(),
                                  [](const std::string& error) { return !error.empty(); });
  return static_cast<int>(first - errors.begin());
}

// Ranks that meet the same error at the same time, an unreadable file say, should not all print it:
// a rank waits a moment for the abort of a lower one to end it.
void LetLowerRanksSpeak(int rank) {
  signal(SIGTERM, SIG_DFL);  // The launcher's word that the job is over.
  absl::SleepFor(absl::Milliseconds(250) * std::min(rank, 8));
}

int RunMpiWorld(const LaunchPlan& plan, const Status& ready, const WorldOptions& options,
                const std::function<Status(const RankContext&)>& fn) {
  const StatusOr<std::unique_ptr<MpiSession>> session = MpiSession::Start();
  if (!session.ok()) return ReportAndReturn(session.status());
  StatusOr<std::unique_ptr<Communicator>> made = (*session)->World(options.comm);
  if (!made.ok()) return ReportAndReturn(made.status());
  std::unique_ptr<Communicator> world = *std::move(made);
  const int rank = world->rank(), size = world->size();
  SetLogRank(rank);
  const Status all_ready = ready.ok() ? CheckWorldSize(plan, size) : ready;
  const StatusOr<int> first_unready = FirstUnready(*world, all_ready);
  Status status = first_unready.status();
  if (status.ok() && *first_unready == size) status = RunRank(*world, options, fn);
  if (!status.ok()) {
    LetLowerRanksSpeak(rank);
    PrintError(Annotate(status, absl::StrCat("rank ", rank)));
    world->Abort(status);
    return kExitError;
  }
  // All ranks come here, or none.
  if (*first_unready == rank) PrintError(all_ready);
  world.reset();
  const Status finished = (*session)->Finish();
  return *first_unready < size ? kExitError : ReportAndReturn(finished);
}

}  // namespace

StatusOr<LaunchPlan> PlanLaunch(const LaunchOptions& options, const LaunchedWorld& launched) {
  LaunchPlan plan;
  if (options.single && options.ranks > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--single is one rank, --ranks ", options.ranks, " is not"));
  }
  if (options.single) return plan;
  if (launched.size > 1 && options.ranks > 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--ranks ", options.ranks, " makes threads of one process, but a launcher started ",
        launched.size, " (", launched.variable, "); leave --ranks out"));
  }
  if (options.ranks > 0) {
    plan.kind = options.ranks == 1 ? WorldKind::kSelf : WorldKind::kThreads;
    plan.num_ranks = options.ranks;
  } else if (launched.launched()) {
    plan.kind = WorldKind::kMpi;
    plan.num_ranks = launched.size;
    plan.rank = launched.rank;
    plan.launcher = launched.variable;
  }
  return plan;
}

Status CheckWorldSize(const LaunchPlan& plan, int64_t world_size) {
  if (world_size == plan.num_ranks) return absl::OkStatus();
  const std::string what =
      absl::StrCat("the world has ", world_size, world_size == 1 ? " rank" : " ranks",
                   " but the launcher started ", plan.num_ranks, " (", plan.launcher, ")");
  return absl::FailedPreconditionError(absl::StrCat(
      what,
      ": the launcher and the MPI library do not match. Start with the mpirun of this MPI, or "
      "srun --mpi=pmix; --single trains on one rank"));
}

int RankPlacement::num_cpus() const {
  int count = 0;
  for (const uint64_t word : cpus) count += std::popcount(word);
  return count;
}

RankPlacement ThisPlacement() {
  RankPlacement placement;
  char host[256] = {};
  if (gethostname(host, sizeof(host) - 1) == 0) placement.host = StableHash(host);
  const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(kMaxCpus),
                                                             [](cpu_set_t* s) { CPU_FREE(s); });
  const size_t bytes = CPU_ALLOC_SIZE(kMaxCpus);
  if (sched_getaffinity(0, bytes, set.get()) != 0) return placement;
  for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
    if (CPU_ISSET_S(cpu, bytes, set.get())) placement.cpus[cpu / 64] |= uint64_t{1} << (cpu % 64);
  }
  return placement;
}

int DefaultThreads(absl::Span<const RankPlacement> placements, int rank) {
  return std::max(1, placements[rank].num_cpus() / RanksSharing(placements, rank));
}

std::string ThreadsWarning(absl::Span<const RankPlacement> placements, int rank, int threads) {
  const int cpus = placements[rank].num_cpus(), sharing = RanksSharing(placements, rank);
  if (cpus == 0 || threads * sharing <= cpus) return "";
  if (sharing == 1) {
    return absl::StrCat(threads, " threads are bound to ", cpus, cpus == 1 ? " core" : " cores",
                        "; start with mpirun --bind-to none, or --map-by slot:PE=", threads);
  }
  return absl::StrCat(sharing, " ranks of ", threads, threads == 1 ? " thread" : " threads",
                      " share ", cpus, cpus == 1 ? " core" : " cores");
}

int RunWorld(const LaunchPlan& plan, const Status& ready, const WorldOptions& options,
             const std::function<Status(const RankContext& rank)>& fn) {
  if (plan.kind == WorldKind::kMpi) return RunMpiWorld(plan, ready, options, fn);
  if (!ready.ok()) return ReportAndReturn(ready);
  if (plan.kind == WorldKind::kSelf) {
    return ReportAndReturn(RunRank(*MakeSelfCommunicator(options.comm), options, fn));
  }
  return ReportAndReturn(
      RunOnRanks(static_cast<int>(plan.num_ranks), options.comm,
                 [&](Communicator& world) { return RunRank(world, options, fn); }));
}

void PrintError(const Status& status) {
  const std::string text = absl::StrCat("trireme: ", status.ToString(), "\n");
  // An error that stderr does not take has nowhere else to go.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
}

int UsageError(const Status& status) {
  if (ReadLaunchedWorld().rank == 0) PrintError(status);
  return kExitUsage;
}

}  // namespace trireme
