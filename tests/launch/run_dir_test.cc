#include "launch/run_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "core/io/file.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

class RunDirTest : public ::testing::Test {
 protected:
  RunDirTest() : run_dir_(JoinPath(::testing::TempDir(), absl::StrCat("run_dir_", getpid()))) {
    EXPECT_TRUE(RemoveTree(run_dir_).ok());
  }
  LoadedConfig Config(const std::vector<std::string>& sets = {}) {
    StatusOr<LoadedConfig> loaded =
        ParseConfig("a", "num_steps: 10 learning_rate: 0.5 model { name: 'm' width: 3 }", sets);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    loaded->config.set_run_dir(run_dir_);
    return *loaded;
  }
  StatusOr<ResumeFrom> Decide(const std::string& resume,
                              const std::vector<std::string>& sets = {}) {
    return DecideResume(Config(sets).config, resume);
  }
  // A run that has come to its first step.
  void Begin() {
    ASSERT_TRUE(PrepareRunDir(Config()).ok());
    ASSERT_TRUE(WriteFileAtomically(MetricsPath(run_dir_), "").ok());
  }
  std::string run_dir_;
};

TEST_F(RunDirTest, AnEmptyFolderStarts) {
  EXPECT_EQ(*Decide("auto"), ResumeFrom::kStart);
  EXPECT_EQ(*Decide("never"), ResumeFrom::kStart);
  EXPECT_EQ(*Decide("some/checkpoint"), ResumeFrom::kPath);
  ASSERT_TRUE(MakeDirectory(run_dir_).ok());
  EXPECT_EQ(*Decide("auto"), ResumeFrom::kStart);
  EXPECT_EQ(*Decide("never"), ResumeFrom::kStart);
}

TEST_F(RunDirTest, ARunThatNeverBeganIsNone) {
  ASSERT_TRUE(PrepareRunDir(Config()).ok());
  EXPECT_EQ(*Decide("auto", {"model.width=4"}), ResumeFrom::kStart);
  EXPECT_EQ(*Decide("never"), ResumeFrom::kStart);
}

TEST_F(RunDirTest, ARunGoesOn) {
  Begin();
  EXPECT_TRUE(PathExists(LogsDir(run_dir_)));
  EXPECT_TRUE(PathExists(CheckpointsDir(run_dir_)));
  EXPECT_EQ(*Decide("auto"), ResumeFrom::kNewest);
  EXPECT_EQ(*Decide("auto", {"num_steps=20", "threads=2"}), ResumeFrom::kNewest);
  EXPECT_EQ(*Decide("some/checkpoint"), ResumeFrom::kPath);
  EXPECT_EQ(Decide("never").status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(Decide("never").status().message()), HasSubstr("--resume auto"));
}

TEST_F(RunDirTest, ARunOfAnotherConfigIsRefusedByName) {
  Begin();
  for (const char* resume : {"auto", "some/checkpoint"}) {
    const Status status = Decide(resume, {"model.width=4", "seed=2"}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("model.width (3 there, 4 here), seed (1 there, 2 here)"));
  }
}

TEST_F(RunDirTest, TheResolvedConfigReadsBack) {
  const LoadedConfig config = Config({"seed=7"});
  ASSERT_TRUE(PrepareRunDir(config).ok());
  const StatusOr<LoadedConfig> again = LoadConfig(ConfigPath(run_dir_), {});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(PrintConfig(*again, false), PrintConfig(config, false));
}

TEST_F(RunDirTest, PathsSortByRank) {
  EXPECT_EQ(RankLogPath("runs/a", 3), "runs/a/logs/rank-0003.log");
}

}  // namespace
}  // namespace trireme
