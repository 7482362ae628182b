// A run that is saved under one layout goes on under any other as if nothing had happened.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "launch/checkpoint/checkpoint_dir.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "launch/run_state.h"
#include "tests/launch/trainers.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

constexpr int kSteps = 4;

struct Layout {
  int num_ranks;
  std::vector<std::string> assignments;
};

RunConfig ConfigOf(const Layout& layout, const std::string& dtype) {
  std::vector<std::string> assignments = layout.assignments;
  assignments.push_back(absl::StrCat("num_steps=", kSteps));
  assignments.push_back(absl::StrCat("dtype=", dtype));
  return testing::ResolvedConfig(testing::ExampleConfig("verify"), layout.num_ranks, assignments);
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

}  // namespace
}  // namespace trireme
