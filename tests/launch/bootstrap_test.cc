#include "launch/bootstrap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "absl/strings/str_cat.h"

#include "core/device/cpu/cpu_device.h"
#include "launch/agreement.h"
#include "launch/command_line.h"
#include "parallel/comm/local.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

LaunchedWorld Launched(const std::map<std::string, std::string>& variables) {
  return ReadLaunchedWorld([&](const char* name) -> const char* {
    const auto it = variables.find(name);
    return it == variables.end() ? nullptr : it->second.c_str();
  });
}

TEST(LaunchedWorldTest, LaunchersAreKnownByTheirVariables) {
  EXPECT_FALSE(Launched({}).launched());
  const LaunchedWorld open_mpi =
      Launched({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}});
  EXPECT_EQ(open_mpi.variable, "OMPI_COMM_WORLD_SIZE=4");
  EXPECT_EQ(open_mpi.size, 4);
  EXPECT_EQ(open_mpi.rank, 3);
  EXPECT_EQ(Launched({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}}).rank, 1);
  EXPECT_EQ(Launched({{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_PROCID", "5"}}).rank, 5);
  // Under mpirun inside an allocation SLURM speaks of the daemons.
  EXPECT_EQ(Launched({{"OMPI_COMM_WORLD_SIZE", "4"}, {"SLURM_STEP_NUM_TASKS", "1"}}).size, 4);
  EXPECT_FALSE(Launched({{"SLURM_NTASKS", "8"}}).launched());
  EXPECT_FALSE(Launched({{"PMI_SIZE", "many"}}).launched());
}

TEST(PlanLaunchTest, EachWayToMakeRanks) {
  EXPECT_EQ(PlanLaunch({}, {})->kind, WorldKind::kSelf);
  EXPECT_EQ(PlanLaunch({.ranks = 1}, {})->kind, WorldKind::kSelf);
  const StatusOr<LaunchPlan> threads = PlanLaunch({.ranks = 4}, {});
  EXPECT_EQ(threads->kind, WorldKind::kThreads);
  EXPECT_EQ(threads->num_ranks, 4);
  const LaunchedWorld four = Launched({{"PMI_SIZE", "4"}, {"PMI_RANK", "2"}});
  const StatusOr<LaunchPlan> mpi = PlanLaunch({}, four);
  EXPECT_EQ(mpi->kind, WorldKind::kMpi);
  EXPECT_EQ(mpi->num_ranks, 4);
  EXPECT_EQ(mpi->rank, 2);
  EXPECT_EQ(PlanLaunch({}, Launched({{"PMI_SIZE", "1"}}))->kind, WorldKind::kMpi);
  EXPECT_EQ(PlanLaunch({.ranks = 2}, Launched({{"PMI_SIZE", "1"}}))->kind, WorldKind::kThreads);
  EXPECT_EQ(PlanLaunch({.single = true}, four)->kind, WorldKind::kSelf);
}

TEST(PlanLaunchTest, Refusals) {
  EXPECT_THAT(
      std::string(PlanLaunch({.ranks = 2}, Launched({{"PMI_SIZE", "4"}})).status().message()),
      HasSubstr("a launcher started 4 (PMI_SIZE=4); leave --ranks out"));
  EXPECT_FALSE(PlanLaunch({.ranks = 2, .single = true}, {}).ok());
}

TEST(PlanLaunchTest, AWorldOfOneUnderALauncherOfManyIsRefused) {
  const LaunchPlan plan = *PlanLaunch({}, Launched({{"SLURM_STEP_NUM_TASKS", "4"}}));
  EXPECT_TRUE(CheckWorldSize(plan, 4).ok());
  const Status status = CheckWorldSize(plan, 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr("the world has 1 rank but the launcher started 4 (SLURM_STEP_NUM_TASKS=4)"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--single"));
}

RankPlacement Placement(uint64_t host, uint64_t cpus) {
  RankPlacement placement;
  placement.host = host;
  placement.cpus[3] = cpus;
  return placement;
}

TEST(ThreadsTest, RanksShareTheProcessorsOfTheirMachine) {
  const RankPlacement unbound[] = {Placement(1, 0xff), Placement(1, 0xff), Placement(2, 0xff)};
  EXPECT_EQ(DefaultThreads(unbound, 0), 4);
  EXPECT_EQ(DefaultThreads(unbound, 2), 8);
  const RankPlacement bound[] = {Placement(1, 0x3), Placement(1, 0xc)};
  EXPECT_EQ(DefaultThreads(bound, 0), 2);
  const RankPlacement crowded[] = {Placement(1, 1), Placement(1, 1), Placement(1, 1)};
  EXPECT_EQ(DefaultThreads(crowded, 1), 1);
  const RankPlacement unknown[] = {Placement(1, 0)};
  EXPECT_EQ(DefaultThreads(unknown, 0), 1);
  EXPECT_EQ(ThreadsWarning(unknown, 0, 8), "");
}

TEST(ThreadsTest, WarnsOfMoreThreadsThanProcessors) {
  const RankPlacement bound[] = {Placement(1, 1), Placement(1, 2)};
  EXPECT_EQ(ThreadsWarning(bound, 0, 1), "");
  EXPECT_EQ(
      ThreadsWarning(bound, 0, 4),
      "4 threads are bound to 1 core; start with mpirun --bind-to none, or --map-by slot:PE=4");
  const RankPlacement unbound[] = {Placement(1, 0xf), Placement(1, 0xf)};
  EXPECT_EQ(ThreadsWarning(unbound, 0, 2), "");
  EXPECT_EQ(ThreadsWarning(unbound, 1, 3), "2 ranks of 3 threads share 4 cores");
}

TEST(ThreadsTest, ThisProcessRunsSomewhere) {
  EXPECT_GE(ThisPlacement().num_cpus(), 1);
  EXPECT_NE(ThisPlacement().host, 0u);
}

TEST(TextExchangeTest, RaggedTexts) {
  const std::string binary("\0\n\xff", 3);
  const Status status = RunOnRanks(3, {}, [&](Communicator& world) -> Status {
    const std::string mine = world.rank() == 0 ? binary : std::string(world.rank() - 1, 'x');
    ASSIGN_OR_RETURN(const std::vector<std::string> texts, GatherTexts(world, mine));
    EXPECT_THAT(texts, ElementsAre(binary, "", "x"));
    ASSIGN_OR_RETURN(const std::string text, BroadcastText(world, absl::StrCat(world.rank())));
    EXPECT_EQ(text, "0");
    ASSIGN_OR_RETURN(const std::vector<std::string> nothing, GatherTexts(world, ""));
    EXPECT_THAT(nothing, ElementsAre("", "", ""));
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(RunWorldTest, ThreadRanksRunWithTheirDevices) {
  std::atomic<int> ranks = 0;
  const LaunchPlan plan = *PlanLaunch({.ranks = 3}, {});
  EXPECT_EQ(RunWorld(plan, absl::OkStatus(), {.threads = 2},
                     [&](const RankContext& rank) {
                       EXPECT_EQ(rank.world.size(), 3);
                       EXPECT_EQ(AsCpu(rank.device).num_threads(), 2);
                       ranks += 1 << rank.world.rank();
                       return absl::OkStatus();
                     }),
            kExitDone);
  EXPECT_EQ(ranks, 7);
}

TEST(RunWorldTest, OneRanksErrorEndsAllAndIsTheLastLine) {
  for (const int num_ranks : {1, 3}) {
    ::testing::internal::CaptureStderr();
    const LaunchPlan plan = *PlanLaunch({.ranks = num_ranks}, {});
    EXPECT_EQ(RunWorld(plan, absl::OkStatus(), {.threads = 1},
                       [&](const RankContext& rank) -> Status {
                         if (rank.world.rank() == num_ranks - 1) {
                           return absl::DataLossError("shard 7 is short");
                         }
                         // The others would wait for ever.
                         return rank.world.Barrier({.purpose = "test"})->Wait();
                       }),
              kExitError);
    const std::string errors = ::testing::internal::GetCapturedStderr();
    EXPECT_THAT(errors, HasSubstr("shard 7 is short"));
    EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
  }
}

TEST(RunWorldTest, NothingRunsWhenTheProcessWasNotReady) {
  ::testing::internal::CaptureStderr();
  const LaunchPlan plan = *PlanLaunch({.ranks = 2}, {});
  EXPECT_EQ(RunWorld(plan, absl::InvalidArgumentError("bad config"), {},
                     [](const RankContext&) -> Status {
                       ADD_FAILURE() << "ran";
                       return absl::OkStatus();
                     }),
            kExitError);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "trireme: INVALID_ARGUMENT: bad config\n");
}

}  // namespace
}  // namespace trireme
