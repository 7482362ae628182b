#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/rng.h"
#include "tests/launch/checkpoint/checkpoint_fixture.h"

namespace trireme {
namespace {

using CheckpointKillTest = CheckpointTest;

// A process saves in a loop and is killed at a random point, again and again, over one directory:
// the newest usable checkpoint is there after each kill, holds its step whole, and is never older
// than the last one that the process saw published.
TEST_F(CheckpointKillTest, SigkillAtRandomPoints) {
  constexpr int kKills = 25;
  const RngKey key = MakeRngKey(1, "kill");
  int64_t step = 1;
  ASSERT_TRUE(Save(dir_.path(), step, 2).ok());
  int in_the_middle = 0;
  for (int kill_number = 0; kill_number < kKills; ++kill_number) {
    int published[2];
    ASSERT_EQ(pipe(published), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      // Reports each step after its save returned.
      for (int64_t s = step + 1;; ++s) {
        if (!Save(dir_.path(), s, 2).ok() || !RemoveOldCheckpoints(dir_.path(), 2).ok()) _exit(1);
        if (write(published[1], &s, sizeof(s)) != sizeof(s)) _exit(2);
      }
    }
    close(published[1]);
    const timespec delay{0, static_cast<long>(UniformAt(key, kill_number) * 60e6)};
    nanosleep(&delay, nullptr);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int exit_status;
    ASSERT_EQ(waitpid(child, &exit_status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(exit_status)) << "the child failed by itself: " << exit_status;
    int64_t last_published = step, s;
    while (read(published[0], &s, sizeof(s)) == sizeof(s)) last_published = s;
    close(published[0]);

    for (const std::string& name : NamesIn(dir_.path())) in_the_middle += IsTemporaryName(name);
    const auto latest = FindLatest(dir_.path(), CheckpointReader::Depth::kData, 1);
    ASSERT_TRUE(latest.ok()) << latest.status() << ": the very newest is whole";
    step = CheckpointReader::Open(*latest)->info().step;
    EXPECT_GE(step, last_published);
    EXPECT_LE(step, last_published + 1);
    const Status loaded = LoadAndCompare(*latest, step, 3);
    EXPECT_TRUE(loaded.ok()) << loaded;
  }
  EXPECT_GT(in_the_middle, 0) << "no kill fell into a save: the test shows nothing";
  RecordProperty("kills_inside_a_save", in_the_middle);
}

}  // namespace
}  // namespace trireme
