#include "core/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace trireme {
namespace {

constexpr char kTemporarySuffix[] = ".tmp";

std::string ParentDirectory(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

// open(2), again when a signal interrupts it.
int OpenRetrying(const std::string& path, int flags, mode_t mode = 0) {
  int fd;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

Status WithBytes(const Status& status, int64_t offset, int64_t bytes) {
  return Status(status.code(), absl::StrCat(status.message(), " (", bytes, " bytes at byte ",
                                            offset, " of the file)"));
}

Status FilesystemStatus(const std::error_code& error, absl::string_view call,
                        const std::string& path) {
  return error ? ErrnoStatus(error.value(), call, path) : absl::OkStatus();
}

}  // namespace

StatusOr<File> File::Open(const std::string& path, Links links) {
  // O_NONBLOCK: a FIFO under this name must not block before fstat can refuse it.
  const int flags = O_RDONLY | O_NONBLOCK | (links == Links::kRefuse ? O_NOFOLLOW : 0);
  const int fd = OpenRetrying(path, flags);
  if (fd < 0) return ErrnoStatus(errno, "open", path);
  File file(path, fd);
  struct stat info;
  if (fstat(fd, &info) != 0) return ErrnoStatus(errno, "stat", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  return file;
}

StatusOr<File> File::Create(const std::string& path) {
  const int fd = OpenRetrying(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (fd < 0) return ErrnoStatus(errno, "create", path);
  return File(path, fd);
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

StatusOr<int64_t> File::Size() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) return ErrnoStatus(errno, "stat", path_);
  return int64_t{info.st_size};
}

Status File::ReadAt(int64_t offset, void* data, int64_t bytes) const {
  char* out = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = pread(fd_, out, bytes, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return WithBytes(ErrnoStatus(errno, "read", path_), offset, bytes);
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path_, " is truncated: it ends at byte ", offset,
                                              ", ", bytes, " bytes too early"));
    }
    out += got;
    offset += got;
    bytes -= got;
  }
  return absl::OkStatus();
}

Status File::WriteAt(int64_t offset, const void* data, int64_t bytes) const {
  const char* in = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = pwrite(fd_, in, bytes, offset);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return WithBytes(ErrnoStatus(errno, "write", path_), offset, bytes);
    in += put;
    offset += put;
    bytes -= put;
  }
  return absl::OkStatus();
}

Status File::Sync() const {
  if (fsync(fd_) != 0) return ErrnoStatus(errno, "fsync", path_);
  return absl::OkStatus();
}

Status File::Close() {
  // Linux frees the descriptor whatever close returns, EINTR included: never a second time.
  if (close(std::exchange(fd_, -1)) != 0 && errno != EINTR) {
    return ErrnoStatus(errno, "close", path_);
  }
  return absl::OkStatus();
}

std::string JoinPath(absl::string_view dir, absl::string_view name) {
  if (dir.empty()) return std::string(name);
  return absl::StrCat(dir, absl::EndsWith(dir, "/") ? "" : "/", name);
}

StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes, File::Links links) {
  ASSIGN_OR_RETURN(const File file, File::Open(path, links));
  ASSIGN_OR_RETURN(const int64_t size, file.Size());
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, " has ", size, " bytes, more than the limit of ", max_bytes));
  }
  std::string contents(size, '\0');
  RETURN_IF_ERROR(file.ReadAt(0, contents.data(), size));
  return contents;
}

std::string TemporaryName(absl::string_view path) {
  return absl::StrCat(absl::StripSuffix(path, "/"), kTemporarySuffix);
}

bool IsTemporaryName(absl::string_view path) { return absl::EndsWith(path, kTemporarySuffix); }

Status WriteFileAtomically(const std::string& path, absl::string_view contents) {
  const std::string temporary = TemporaryName(path);
  auto remove = absl::MakeCleanup([&temporary] { unlink(temporary.c_str()); });
  ASSIGN_OR_RETURN(File file, File::Create(temporary));
  RETURN_IF_ERROR(file.WriteAt(0, contents.data(), contents.size()));
  RETURN_IF_ERROR(file.Sync());
  RETURN_IF_ERROR(file.Close());
  RETURN_IF_ERROR(RenameDurably(temporary, path));
  std::move(remove).Cancel();
  return absl::OkStatus();
}

Status RenameDurably(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) return ErrnoStatus(errno, "rename to", to);
  return SyncDirectory(ParentDirectory(to));
}

Status PublishDirectory(const std::string& temporary, const std::string& path) {
  RETURN_IF_ERROR(SyncDirectory(temporary));
  const std::string parent = ParentDirectory(path);
  if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0 ||
      (errno == EINVAL && !PathExists(path) && rename(temporary.c_str(), path.c_str()) == 0)) {
    return SyncDirectory(parent);
  }
  if (errno != EEXIST && errno != EINVAL) return ErrnoStatus(errno, "rename to", path);
  if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
    RETURN_IF_ERROR(SyncDirectory(parent));
    return RemoveTree(temporary);
  }
  if (errno != EINVAL) return ErrnoStatus(errno, "exchange with", path);
  // Network file systems cannot swap: the old one steps aside first.
  const std::string aside = TemporaryName(absl::StrCat(path, ".replaced"));
  RETURN_IF_ERROR(RemoveTree(aside));
  if (rename(path.c_str(), aside.c_str()) != 0) return ErrnoStatus(errno, "rename", path);
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    const Status failed = ErrnoStatus(errno, "rename to", path);
    if (rename(aside.c_str(), path.c_str()) != 0) return ErrnoStatus(errno, "rename back to", path);
    return failed;
  }
  RETURN_IF_ERROR(SyncDirectory(parent));
  return RemoveTree(aside);
}

Status MakeDirectory(const std::string& path) {
  const std::string parent = ParentDirectory(path);
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return absl::OkStatus();
  if (parent != path && !PathExists(parent)) RETURN_IF_ERROR(MakeDirectory(parent));
  std::filesystem::create_directory(path, error);
  RETURN_IF_ERROR(FilesystemStatus(error, "create directory", path));
  return SyncDirectory(parent);
}

Status RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return FilesystemStatus(error, "remove", path);
}

StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  auto it = std::filesystem::directory_iterator(path, error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  RETURN_IF_ERROR(FilesystemStatus(error, "list", path));
  std::sort(names.begin(), names.end());
  return names;
}

bool PathExists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

Status SyncDirectory(const std::string& path) {
  const int fd = OpenRetrying(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return ErrnoStatus(errno, "open directory", path);
  // Some network file systems have no fsync for directories and say EINVAL.
  const bool failed = fsync(fd) != 0 && errno != EINVAL;
  const int sync_errno = errno;
  if (close(fd) != 0 && !failed) return ErrnoStatus(errno, "close directory", path);
  return failed ? ErrnoStatus(sync_errno, "fsync directory", path) : absl::OkStatus();
}

}  // namespace trireme
