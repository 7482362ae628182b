// A run that is saved under one layout goes on under any other as if nothing had happened.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"

#include "launch/checkpoint/checkpoint_dir.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "launch/run_state.h"
#include "tests/launch/trainers.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

constexpr int kSteps = 4, kRoundSteps = 9;

struct Layout {
  int num_ranks;
  std::vector<std::string> assignments;
  std::string exchanges = "";  // Rows of what replicas exchange.
};

RunConfig ConfigOf(const Layout& layout, const std::string& dtype) {
  std::vector<std::string> assignments = layout.assignments;
  assignments.push_back(
      absl::StrCat("num_steps=", layout.exchanges.empty() ? kSteps : kRoundSteps));
  assignments.push_back(absl::StrCat("dtype=", dtype));
  return testing::ResolvedConfig(testing::ExampleConfig("verify") + layout.exchanges,
                                 layout.num_ranks, assignments);
}

// Takes steps `first` to `last` under a layout, from and to checkpoints of `directory`; the losses.
std::vector<double> RunSteps(const Layout& layout, const std::string& dtype, int first, int last,
                             const std::string& directory) {
  const RunConfig config = ConfigOf(layout, dtype);
  std::vector<double> losses;
  testing::OnTrainers(config, layout.num_ranks, [&](const testing::TrainerRank& rank) -> Status {
    if (first > 0) {
      ASSIGN_OR_RETURN(const std::string checkpoint, FindLatest(directory));
      RETURN_IF_ERROR(LoadState(checkpoint, rank.dataset.fingerprint(), rank.trainer).status());
      EXPECT_EQ(rank.trainer.step(), first);
    }
    std::vector<double> mine;
    for (int step = first; step < last; ++step) {
      ASSIGN_OR_RETURN(const StepReport report, rank.trainer.Step());
      mine.push_back(report.loss);
    }
    if (rank.world.rank() == 0) losses = mine;
    return SaveCheckpoint(MakeCheckpointGroup(rank.world), directory, TensorsToWrite(rank.trainer),
                          MakeCheckpointInfo(rank.trainer, config, rank.dataset.fingerprint()), 1);
  });
  return losses;
}

// Two replicas in rounds of three steps, whose codec has blocks that cuts of rows and columns run
// through.
constexpr char kRounds[] = R"(
  exchanges {
    point: "difference" rule { name: "every" period: 3 } codec { name: "int8" block: 40 }
    memory: "error_feedback" mixer { name: "all_gather" } outer { name: "sgd" }
  }
)";
Layout Rounds(int num_ranks, std::vector<std::string> assignments) {
  return {num_ranks, std::move(assignments), kRounds};
}

const Layout kOneRank = {1, {}};
const Layout kLayouts[] = {
    {4, {"mesh.tensor=2", "mesh.pipeline=2", "mesh.sharded_stream=true"}},
    {4, {"mesh.shard=4", "mesh.zero_stage=3"}},
    {8, {"mesh.tensor=8"}},  // Four ranks have each key-value head.
    {4, {"mesh.replica=2", "mesh.sequence=2", "mesh.zero_stage=2", "kv_exchange.name=ring"}},
    {4, {"mesh.pipeline=4", "pipeline_schedule.name=zb_v"}},
    {8,
     {"mesh.replica=2", "mesh.pipeline=2", "mesh.shard=2", "pipeline_schedule.name=interleaved"}},
};

TEST(LayoutResumeTest, ARunGoesOnUnderAnotherLayout) {
  const testing::TemporaryDirectory straight;
  const std::vector<double> expected = RunSteps(kOneRank, "f64", 0, kSteps, straight.path());
  for (size_t i = 0; i < std::size(kLayouts); ++i) {
    SCOPED_TRACE(i);
    // From each layout to the next, step by step, and home to one rank.
    const testing::TemporaryDirectory directory;
    const Layout steps[kSteps] = {kLayouts[i], kLayouts[(i + 1) % std::size(kLayouts)],
                                  kLayouts[(i + 3) % std::size(kLayouts)], kOneRank};
    for (int step = 0; step < kSteps; ++step) {
      const std::vector<double> losses =
          RunSteps(steps[step], "f64", step, step + 1, directory.path());
      ASSERT_EQ(losses.size(), 1u);
      EXPECT_NEAR(losses[0], expected[step], 1e-10 * expected[step]) << "step " << step;
    }
  }
}

// Masters in f32 under weights in bf16; the same layout again is the same to the bit.
TEST(LayoutResumeTest, TheSameLayoutGoesOnToTheBit) {
  for (const Layout& layout : kLayouts) {
    const testing::TemporaryDirectory straight, stopped;
    const std::vector<double> expected = RunSteps(layout, "bf16", 0, kSteps, straight.path());
    std::vector<double> losses = RunSteps(layout, "bf16", 0, 2, stopped.path());
    for (const double loss : RunSteps(layout, "bf16", 2, kSteps, stopped.path()))
      losses.push_back(loss);
    EXPECT_EQ(losses, expected);
  }
}

// Replicas in the middle of a round, each with parameters, moments and an error of its own, change
// what they are made of.
TEST(LayoutResumeTest, ARoundGoesOnUnderAnotherLayout) {
  const testing::TemporaryDirectory straight, cut;
  const std::vector<double> expected =
      RunSteps(Rounds(2, {"mesh.replica=2"}), "f64", 0, kRoundSteps, straight.path());
  const Layout steps[] = {
      Rounds(4, {"mesh.replica=2", "mesh.tensor=2"}),
      Rounds(4, {"mesh.replica=2", "mesh.shard=2", "mesh.zero_stage=3"}),
      Rounds(4, {"mesh.replica=2", "mesh.pipeline=2"}),
      Rounds(2, {"mesh.replica=2"}),
  };
  const int ends[] = {4, 5, 7, kRoundSteps};
  int first = 0;
  for (size_t i = 0; i < std::size(steps); ++i) {
    const std::vector<double> losses = RunSteps(steps[i], "f64", first, ends[i], cut.path());
    for (int step = first; step < ends[i]; ++step) {
      EXPECT_NEAR(losses[step - first], expected[step], 1e-9 * expected[step]) << "step " << step;
    }
    first = ends[i];
  }
}

// What LoadState says, or refuses, when a run that was saved after `saved_at` steps goes on with
// another number of replicas.
StatusOr<std::string> OtherReplicas(int saved_at, const Layout& from, const Layout& to) {
  const testing::TemporaryDirectory directory;
  RunSteps(from, "f64", 0, saved_at, directory.path());
  StatusOr<std::string> said;
  testing::OnTrainers(
      ConfigOf(to, "f64"), to.num_ranks, [&](const testing::TrainerRank& rank) -> Status {
        ASSIGN_OR_RETURN(const std::string newest, FindLatest(directory.path()));
        StatusOr<std::string> mine = LoadState(newest, rank.dataset.fingerprint(), rank.trainer);
        const bool loaded = mine.ok();
        if (rank.world.rank() == 0) said = std::move(mine);
        if (!loaded) return absl::OkStatus();
        // And it goes on to the end.
        while (rank.trainer.step() < kRoundSteps) {
          ASSIGN_OR_RETURN(const StepReport report, rank.trainer.Step());
          EXPECT_TRUE(std::isfinite(report.loss));
        }
        return absl::OkStatus();
      });
  return said;
}

TEST(LayoutResumeTest, AnotherNumberOfReplicasGoesOnAfterAnExchange) {
  const Layout two = Rounds(4, {"mesh.replica=2", "mesh.tensor=2"});
  const Layout four = Rounds(4, {"mesh.replica=4"}), one = Rounds(2, {"mesh.shard=2"});
  for (const Layout& other : {four, one}) {
    const StatusOr<std::string> after = OtherReplicas(6, two, other);
    ASSERT_TRUE(after.ok()) << after.status();
    EXPECT_THAT(*after, ::testing::HasSubstr("another number of replicas than saved"));
    EXPECT_THAT(*after, ::testing::HasSubstr("exchange0.memory"));
    EXPECT_THAT(*after, ::testing::HasSubstr("exp_avg"));
    const StatusOr<std::string> amid = OtherReplicas(4, two, other);
    EXPECT_EQ(amid.status().code(), absl::StatusCode::kFailedPrecondition) << amid.status();
    EXPECT_THAT(std::string(amid.status().message()),
                ::testing::HasSubstr("in the middle of a round of 2 replicas"));
  }
}

}  // namespace
}  // namespace trireme
