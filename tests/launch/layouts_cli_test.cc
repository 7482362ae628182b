// The commands that show layouts without running them: schedule and mesh.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launch/command_line.h"
#include "tests/launch/program.h"

namespace trireme {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kTiny[] = TRIREME_SOURCE_DIR "/examples/configs/tiny.textproto";

Result Invoke(std::vector<std::string> args) {
  args.insert(args.begin(), TRIREME_PROGRAM);
  return RunToEnd(std::move(args));
}

TEST(ScheduleCliTest, ShowPrintsGridAndSummary) {
  const std::string svg = TestPath("zb_v.svg");
  const Result show =
      Invoke({"schedule", "show", "zb_v", "--stages", "4", "--microbatches", "8", "--svg", svg});
  EXPECT_EQ(show.code, kExitDone) << show.err;
  EXPECT_THAT(show.out,
              AllOf(HasSubstr("zb_v: ranks 4, micro-batches 8, chunks a rank 2\n"),
                    HasSubstr("\nrank 0  F0.0 F1.0 F2.0 F3.0 F4.0 F5.0 F6.0 F0.1 I0.1 W0.1 F1.1"),
                    HasSubstr("\nmakespan 25.5: work 24, idle 1.5 (5.9 %)\n"),
                    ContainsRegex("\n +3 +1[.]5 +0 +4\n")));
  EXPECT_THAT(*ReadFile(svg), HasSubstr("zb_v: ranks 4"));
  const Result chunks =
      Invoke({"schedule", "show", "interleaved", "--stages=4", "--microbatches=8", "--chunks=4"});
  EXPECT_THAT(chunks.out, HasSubstr("\nmakespan 26.25: work 24,"));
}

TEST(ScheduleCliTest, RefusalsAreOneLine) {
  const auto show = [](std::vector<std::string> args) {
    args.insert(args.begin(), {"schedule", "show"});
    const Result result = Invoke(args);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    return std::pair(result.code, result.err);
  };
  EXPECT_EQ(
      show({"1f1b", "--stages", "4", "--microbatches", "8", "--chunks", "2"}),
      std::pair(+kExitError,
                std::string("trireme: INVALID_ARGUMENT: 1f1b: chunks = 2 is outside [1, 1]\n")));
  EXPECT_EQ(show({"1f1c", "--stages", "4", "--microbatches", "8"}).first, kExitError);
  EXPECT_EQ(show({"1f1b", "--stages", "9999999999", "--microbatches", "8"}).first, kExitError);
  EXPECT_EQ(show({"1f1b", "--stages", "4"}).first, kExitUsage);
  EXPECT_EQ(show({"1f1b", "--stages", "4", "--microbatches", "0"}).first, kExitUsage);
  EXPECT_EQ(show({"1f1b", "--stages", "x", "--microbatches", "8"}).first, kExitUsage);
  EXPECT_EQ(show({"1f1b", "2", "--stages", "4", "--microbatches", "8"}).first, kExitUsage);
  EXPECT_EQ(Invoke({"schedule", "draw", "1f1b"}).code, kExitUsage);
  // The picture is all or nothing: no grid is printed when it cannot be written.
  EXPECT_EQ(show({"1f1b", "--stages", "2", "--microbatches", "2", "--svg", "/dev/null/x"}).first,
            kExitError);
}

TEST(MeshCliTest, PrintsPlacesPartsAndTraffic) {
  const Result mesh = Invoke({"mesh", "--config", kTiny, "--ranks", "8", "--set", "mesh.tensor=2",
                              "--set", "mesh.pipeline=2"});
  ASSERT_EQ(mesh.code, kExitDone) << mesh.err;
  EXPECT_THAT(mesh.out, AllOf(HasSubstr("replica=2 pipeline=2 tensor=2: 8 ranks\n"),
                              HasSubstr("rank = 4 replica + 2 pipeline + tensor\n"),
                              ContainsRegex("\n   5 +1 +0 +1\n"), ContainsRegex("\n +1  2-3 ")));
  // 4 samples of 32 tokens of width 32 in f32; two all-reduces of as much a layer.
  EXPECT_THAT(mesh.out, ContainsRegex("\npipeline +2  activations +send +1 +16384 +4 +65536\n"));
  EXPECT_THAT(mesh.out, ContainsRegex("\ntensor +2  stream gradients +all_reduce +2 +32768 +8 "));
  EXPECT_THAT(mesh.out, ContainsRegex("\n[0-9]+ bytes a step in all\n"));
}

TEST(MeshCliTest, OneRankSendsNothingAndManyAreAFormula) {
  EXPECT_THAT(Invoke({"mesh", "--config", kTiny}).out, HasSubstr("nothing travels"));
  const Result many = Invoke({"mesh", "--config", kTiny, "--ranks", "256", "--set", "mesh.tensor=4",
                              "--set", "batch.global_batch_size=64"});
  EXPECT_THAT(many.out, AllOf(HasSubstr("rank = 4 replica + tensor\n"), Not(HasSubstr("\n   5 "))));
}

TEST(MeshCliTest, RefusalsAreOneLine) {
  EXPECT_EQ(Invoke({"mesh"}).code, kExitUsage);
  const std::pair<std::string, std::string> refusals[] = {
      {"mesh.tensor=3", "needs a multiple of 3 ranks, world has 8"},
      {"mesh.tensor=8", "cannot be shared equally over tensor=8"},
      {"mesh.pipeline=8", "a model of 4 units has no 8 pipeline stages"}};
  for (const auto& [assignment, message] : refusals) {
    const Result refused = Invoke({"mesh", "--config", kTiny, "--ranks", "8", "--set", assignment});
    EXPECT_EQ(refused.code, kExitError);
    EXPECT_THAT(refused.err, HasSubstr(message));
    EXPECT_EQ(std::count(refused.err.begin(), refused.err.end(), '\n'), 1) << refused.err;
  }
}

}  // namespace
}  // namespace trireme
