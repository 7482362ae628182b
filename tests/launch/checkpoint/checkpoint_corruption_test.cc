#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/checkpoint/manifest.h"
#include "tests/launch/checkpoint/checkpoint_fixture.h"

namespace trireme {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CheckpointCorruptionTest : public CheckpointTest {
 protected:
  void SetUp() override { ASSERT_TRUE(Save(dir_.path(), 1, 2).ok()); }

  // Damage in place, without the cost of an atomic write.
  static void Overwrite(const std::string& path, const std::string& contents) {
    const auto file = File::Create(path);
    ASSERT_TRUE(file.ok() && file->WriteAt(0, contents.data(), contents.size()).ok());
  }
  Status Verified(const std::string& path) {
    ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(path));
    return reader.Verify(CheckpointReader::Depth::kData);
  }

  const std::string path_ = dir_ / CheckpointName(1);
};

TEST_F(CheckpointCorruptionTest, EveryTruncationOfEveryFileIsFound) {
  for (const std::string& name : NamesIn(path_)) {
    const std::string file = path_ + "/" + name;
    const std::string whole = *ReadFile(file);
    for (int64_t n = whole.size() - 1; n >= 0; --n) {
      ASSERT_EQ(truncate(file.c_str(), n), 0);
      ASSERT_FALSE(Verified(path_).ok()) << name << " cut to " << n;
    }
    Overwrite(file, whole + "x");
    EXPECT_FALSE(Verified(path_).ok()) << name;
    Overwrite(file, whole);
  }
  EXPECT_TRUE(Verified(path_).ok());
}

TEST_F(CheckpointCorruptionTest, EveryFlippedByteOfEveryFileIsFound) {
  for (const std::string& name : NamesIn(path_)) {
    const std::string file = path_ + "/" + name;
    const std::string whole = *ReadFile(file);
    const int fd = open(file.c_str(), O_WRONLY);
    for (size_t n = 0; n < whole.size(); ++n) {
      const char bad = whole[n] ^ 1 << n % 8;
      ASSERT_EQ(pwrite(fd, &bad, 1, n), 1);
      const Status status = Verified(path_);
      ASSERT_FALSE(status.ok()) << name << " byte " << n;
      ASSERT_THAT(Message(status), HasSubstr(file));
      ASSERT_EQ(pwrite(fd, &whole[n], 1, n), 1);
    }
    close(fd);
  }
  EXPECT_TRUE(Verified(path_).ok());
}

TEST_F(CheckpointCorruptionTest, ReadNamesTensorFileAndByte) {
  const std::string file = path_ + "/shard-00000-of-00002.safetensors";
  std::string contents = *ReadFile(file);
  contents.back() ^= 1;  // Of "columns": the narrowest type is last.
  Overwrite(file, contents);
  auto reader = CheckpointReader::Open(path_);
  ASSERT_TRUE(reader.ok());
  EXPECT_TRUE(reader->Verify(CheckpointReader::Depth::kHeaders).ok());
  const Status status = reader->Read(Saved("columns", 1, {3, 8}, {{0, 0}, {3, 8}}, DType::kBF16));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status),
              AllOf(HasSubstr(file), HasSubstr("'columns'"), HasSubstr("at byte")));
  EXPECT_TRUE(reader->Read(Saved("rows", 1, {7, 5}, {{0, 0}, {7, 5}}, DType::kF32)).ok());
}

TEST_F(CheckpointCorruptionTest, FindLatestFallsBackAndSaysWhy) {
  for (const int64_t step : {2, 3, 4}) ASSERT_TRUE(Save(dir_.path(), step, 1).ok());
  ASSERT_EQ(truncate((dir_ / CheckpointName(4) + "/manifest.pb").c_str(), 20), 0);
  const std::string shard = dir_ / CheckpointName(3) + "/shard-00000-of-00001.safetensors";
  std::string contents = *ReadFile(shard);
  contents.back() ^= 1;
  Overwrite(shard, contents);
  ASSERT_TRUE(MakeDirectory(dir_ / "step-00000009.tmp").ok());
  ASSERT_TRUE(MakeDirectory(dir_ / "step-9").ok());
  ASSERT_TRUE(MakeDirectory(dir_ / "step-00000008").ok());
  ::testing::internal::CaptureStderr();
  const auto latest = FindLatest(dir_.path());
  const std::string log = ::testing::internal::GetCapturedStderr();
  ASSERT_TRUE(latest.ok()) << latest.status();
  EXPECT_EQ(*latest, dir_ / CheckpointName(2));
  EXPECT_THAT(log, AllOf(HasSubstr("step-00000008"), HasSubstr("step-00000004"),
                         HasSubstr("step-00000003"), HasSubstr("wrong checksum")));
  // Without reading the data, the flipped byte is not seen.
  EXPECT_EQ(*FindLatest(dir_.path(), CheckpointReader::Depth::kHeaders), dir_ / CheckpointName(3));
  EXPECT_EQ(FindLatest(dir_.path(), CheckpointReader::Depth::kData, 2).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(FindLatest(dir_ / "none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CheckpointCorruptionTest, RenamedCheckpointIsNotTakenForAnotherStep) {
  ASSERT_TRUE(RenameDurably(path_, dir_ / CheckpointName(7)).ok());
  EXPECT_FALSE(FindLatest(dir_.path()).ok());
  EXPECT_TRUE(CheckpointReader::Open(dir_ / CheckpointName(7)).ok()) << "by its path it loads";
}

TEST_F(CheckpointCorruptionTest, OldOnesAreKeptWhileNewerOnesAreDamaged) {
  for (const int64_t step : {2, 3, 4}) ASSERT_TRUE(Save(dir_.path(), step, 1).ok());
  ASSERT_EQ(unlink((dir_ / CheckpointName(3) + "/manifest.pb").c_str()), 0);
  ASSERT_TRUE(RemoveOldCheckpoints(dir_.path(), 2).ok());
  EXPECT_EQ(*ListCheckpoints(dir_.path()), (std::vector<int64_t>{4, 3, 2}));
}

TEST_F(CheckpointCorruptionTest, LinksOutOfTheDirectoryAreRefused) {
  for (const std::string& name : NamesIn(path_)) {
    const std::string file = path_ + "/" + name;
    ASSERT_TRUE(RenameDurably(file, dir_ / name).ok());
    ASSERT_EQ(symlink((dir_ / name).c_str(), file.c_str()), 0);
    EXPECT_FALSE(Verified(path_).ok()) << name;
    ASSERT_TRUE(RenameDurably(dir_ / name, file).ok());
    ASSERT_TRUE(Verified(path_).ok());
  }
}

TEST_F(CheckpointCorruptionTest, NamedPipeInPlaceOfAShardDoesNotBlock) {
  const std::string file = path_ + "/shard-00000-of-00002.safetensors";
  ASSERT_EQ(unlink(file.c_str()), 0);
  ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
  EXPECT_THAT(Message(Verified(path_)), HasSubstr("not a regular file"));
}

TEST_F(CheckpointCorruptionTest, ShardOfAnotherCheckpointIsRefused) {
  ASSERT_TRUE(Save(dir_.path(), 2, 2).ok());
  const std::string name = "/shard-00000-of-00002.safetensors";
  Overwrite(path_ + name, *ReadFile(dir_ / CheckpointName(2) + name));
  EXPECT_THAT(Message(Verified(path_)), HasSubstr("wrong checksum"));
}

TEST_F(CheckpointCorruptionTest, FullDiskLeavesTheLastGoodOne) {
  testing::TemporaryDirectory small(256 << 10);
  if (!small.mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted";
  ASSERT_TRUE(Save(small.path(), 1, 2).ok());
  SavedTensor large = Saved("large", 2, {1 << 20}, {{0}, {1 << 20}}, DType::kF32);
  const Status status =
      SaveCheckpoint(CheckpointGroup::Single(), small.path(), {large}, Info(2), 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(
      Message(status),
      AllOf(HasSubstr("checkpoint of step 2"), HasSubstr("shard-00000-of-00001.safetensors"),
            HasSubstr("No space left on device"), HasSubstr("bytes at byte")));
  EXPECT_THAT(NamesIn(small.path()), ElementsAre("step-00000001"));
  EXPECT_TRUE(LoadAndCompare(*FindLatest(small.path()), 1, 3).ok());
  // Every amount of free space, down to none: each save is whole or leaves nothing.
  int failures = 0;
  for (int64_t free = 0; free < 48; free += 4) {
    const std::string ballast = small / "ballast";
    const auto file = File::Create(ballast);
    for (int64_t at = 0; file->WriteAt(at, std::string(4096, 'x').data(), 4096).ok();) at += 4096;
    const int64_t size = *file->Size();
    ASSERT_EQ(truncate(ballast.c_str(), std::max<int64_t>(0, size - free * 1024)), 0);
    const Status saved =
        SaveCheckpoint(CheckpointGroup::Single(), small.path(), State(3, 0, 1), Info(3), 2);
    failures += !saved.ok();
    std::vector<std::string> expected = {"ballast", "step-00000001"};
    if (saved.ok()) expected.push_back("step-00000003");
    EXPECT_EQ(NamesIn(small.path()), expected);
    ASSERT_TRUE(LoadAndCompare(*FindLatest(small.path()), saved.ok() ? 3 : 1, 1).ok());
    ASSERT_TRUE(RemoveTree(small / CheckpointName(3)).ok());
    ASSERT_TRUE(RemoveTree(ballast).ok());
  }
  EXPECT_GT(failures, 0);
  EXPECT_LT(failures, 12);
}

}  // namespace
}  // namespace trireme
