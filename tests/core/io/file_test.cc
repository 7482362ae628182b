#include "core/io/file.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "tests/testing/temporary_directory.h"

namespace {

// Faults of the next calls, for errors that no healthy disk shows. The program's own definitions
// below stand before those of the C library.
int fsync_errno = 0;
int interruptions = 0;
size_t largest_transfer = SIZE_MAX;

template <typename Fn>
Fn* Real(const char* name) {
  return reinterpret_cast<Fn*>(dlsym(RTLD_NEXT, name));
}

bool Interrupted() {
  if (interruptions == 0) return false;
  --interruptions;
  errno = EINTR;
  return true;
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int fsync(int fd) {
  if (fsync_errno == 0) return Real<int(int)>("fsync")(fd);
  errno = fsync_errno;
  return -1;
}

__attribute__((visibility("default"))) ssize_t pread(int fd, void* data, size_t bytes, off_t at) {
  if (Interrupted()) return -1;
  return Real<ssize_t(int, void*, size_t, off_t)>("pread")(fd, data,
                                                           std::min(bytes, largest_transfer), at);
}

__attribute__((visibility("default"))) ssize_t pwrite(int fd, const void* data, size_t bytes,
                                                      off_t at) {
  if (Interrupted()) return -1;
  return Real<ssize_t(int, const void*, size_t, off_t)>("pwrite")(
      fd, data, std::min(bytes, largest_transfer), at);
}

}  // extern "C"

namespace trireme {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

std::string Message(const Status& status) { return std::string(status.message()); }

TEST(FileTest, WritesAndReadsBack) {
  TemporaryDirectory dir;
  for (const std::string& contents : {std::string(), std::string("abc\0def", 7)}) {
    ASSERT_TRUE(WriteFileAtomically(dir / "a", contents).ok());
    EXPECT_EQ(*ReadFile(dir / "a"), contents);
  }
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("a"));
  EXPECT_EQ(ReadFile(dir / "a", 6).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(FileTest, ShortAndInterruptedTransfersGoOn) {
  TemporaryDirectory dir;
  largest_transfer = 3;
  interruptions = 2;
  EXPECT_TRUE(WriteFileAtomically(dir / "a", "0123456789").ok());
  interruptions = 2;
  EXPECT_EQ(*ReadFile(dir / "a"), "0123456789");
  largest_transfer = SIZE_MAX;
}

TEST(FileTest, TruncatedFileNamesTheByte) {
  TemporaryDirectory dir;
  ASSERT_TRUE(WriteFileAtomically(dir / "a", "12345").ok());
  const auto file = File::Open(dir / "a");
  char data[8];
  EXPECT_TRUE(file->ReadAt(1, data, 4).ok());
  const Status status = file->ReadAt(2, data, 4);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status),
              HasSubstr((dir / "a") + " is truncated: it ends at byte 5, 1 bytes too early"));
  EXPECT_FALSE(file->ReadAt(-1, data, 1).ok());
}

TEST(FileTest, OnlyRegularFilesOpen) {
  TemporaryDirectory dir;
  EXPECT_EQ(File::Open(dir / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(File::Open(dir.path()).status()), HasSubstr("not a regular file"));
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(Message(File::Open(dir / "fifo").status()), HasSubstr("not a regular file"));
  ASSERT_TRUE(WriteFileAtomically(dir / "a", "1").ok());
  ASSERT_EQ(symlink("a", (dir / "link").c_str()), 0);
  EXPECT_TRUE(File::Open(dir / "link").ok());
  EXPECT_FALSE(File::Open(dir / "link", File::Links::kRefuse).ok());
}

TEST(FileTest, FullDiskLeavesTheOldFileAndNoTemporary) {
  TemporaryDirectory dir(64 << 10);
  if (!dir.mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted";
  ASSERT_TRUE(WriteFileAtomically(dir / "a", "old").ok());
  const Status status = WriteFileAtomically(dir / "a", std::string(1 << 20, 'x'));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), AllOf(HasSubstr(dir / "a.tmp"), HasSubstr("No space left on device"),
                                     HasSubstr("bytes at byte ")));
  EXPECT_EQ(*ReadFile(dir / "a"), "old");
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("a"));
}

TEST(FileTest, FailedFsyncPublishesNothing) {
  TemporaryDirectory dir;
  ASSERT_TRUE(WriteFileAtomically(dir / "a", "old").ok());
  fsync_errno = EIO;
  const Status file_status = WriteFileAtomically(dir / "a", "new");
  const Status directory_status = SyncDirectory(dir.path());
  fsync_errno = EINVAL;
  const Status unsupported = SyncDirectory(dir.path());
  fsync_errno = 0;
  EXPECT_THAT(Message(file_status), HasSubstr("fsync " + (dir / "a.tmp")));
  EXPECT_THAT(Message(directory_status), HasSubstr("fsync directory " + dir.path()));
  EXPECT_TRUE(unsupported.ok()) << "some network file systems cannot";
  EXPECT_EQ(*ReadFile(dir / "a"), "old");
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("a"));
}

TEST(FileTest, PublishDirectoryReplacesWhole) {
  TemporaryDirectory dir;
  for (const std::string contents : {"first", "second"}) {
    const std::string temporary = TemporaryName(dir / "d/");
    EXPECT_TRUE(IsTemporaryName(temporary));
    ASSERT_TRUE(MakeDirectory(temporary).ok());
    ASSERT_TRUE(WriteFileAtomically(temporary + "/" + contents, contents).ok());
    const Status published = PublishDirectory(temporary, dir / "d");
    ASSERT_TRUE(published.ok()) << published;
    EXPECT_THAT(*ListDirectory(dir / "d"), ElementsAre(contents));
    EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("d"));
  }
  EXPECT_EQ(PublishDirectory(dir / "none.tmp", dir / "e").code(), absl::StatusCode::kNotFound);
}

TEST(FileTest, DirectoriesWithParents) {
  TemporaryDirectory dir;
  EXPECT_TRUE(MakeDirectory(dir / "a/b/c").ok());
  EXPECT_TRUE(MakeDirectory(dir / "a/b/c").ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "a/f", "").ok());
  EXPECT_FALSE(MakeDirectory(dir / "a/f").ok());
  EXPECT_FALSE(MakeDirectory(dir / "a/f/g").ok());
  EXPECT_THAT(*ListDirectory(dir / "a"), ElementsAre("b", "f"));
  ASSERT_EQ(symlink("/", (dir / "a/root").c_str()), 0);
  EXPECT_TRUE(RemoveTree(dir / "a").ok());
  EXPECT_FALSE(PathExists(dir / "a"));
  EXPECT_TRUE(RemoveTree(dir / "a").ok());
  EXPECT_EQ(ListDirectory(dir / "a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
}

TEST(FileTest, ErrorsOfCreation) {
  TemporaryDirectory dir;
  EXPECT_EQ(WriteFileAtomically(dir / "none/a", "").code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(MakeDirectory(dir / "d/sub").ok());
  const Status onto_directory = WriteFileAtomically(dir / "d", "text");
  EXPECT_THAT(Message(onto_directory), HasSubstr("rename to " + (dir / "d")));
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("d"));
}

}  // namespace
}  // namespace trireme
