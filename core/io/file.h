// Files, checked: every return code is looked at; messages name path, byte and reason.
//
// A file or directory is published whole or not at all: it is written under TemporaryName(path),
// fsynced, renamed, and its parent directory fsynced. After a crash or a full disk only the
// temporary name can be partial; the next writer of the path clears it. One writer a path.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/status.h"

namespace trireme {

// An open regular file. Errors are those of errno (ErrnoStatus), or DATA_LOSS: it is too short.
class File {
 public:
  enum class Links { kFollow, kRefuse };  // Whether the last component may be a symbolic link.

  static StatusOr<File> Open(const std::string& path, Links links = Links::kFollow);
  // For writing; an existing file is emptied.
  static StatusOr<File> Create(const std::string& path);

  File() = default;
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  const std::string& path() const { return path_; }
  StatusOr<int64_t> Size() const;

  // All bytes or an error. Thread-safe.
  Status ReadAt(int64_t offset, void* data, int64_t bytes) const;
  Status WriteAt(int64_t offset, const void* data, int64_t bytes) const;

  // Until the contents are on the disk.
  Status Sync() const;
  // Closing a written file may report an error; the destructor looks at none.
  Status Close();

 private:
  File(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_ = -1;
};

// "dir/name"; just `name` when dir is empty.
std::string JoinPath(absl::string_view dir, absl::string_view name);

// The whole file. RESOURCE_EXHAUSTED, before allocating, when it has more than max_bytes.
StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes = int64_t{1} << 30,
                               File::Links links = File::Links::kFollow);

// Where `path` is prepared before it is published.
std::string TemporaryName(absl::string_view path);
bool IsTemporaryName(absl::string_view path);

// Publishes `contents` as the file `path`, in place of one that may be there.
Status WriteFileAtomically(const std::string& path, absl::string_view contents);

// Publishes the directory `temporary` (whose files are already synced) as `path`, in place of a
// directory that may be there: one is swapped for the other, then the old one removed.
Status PublishDirectory(const std::string& temporary, const std::string& path);

// rename(2), then fsync of the parent of `to`.
Status RenameDurably(const std::string& from, const std::string& to);

// With parents, all durable; existing ones are fine.
Status MakeDirectory(const std::string& path);
// A file or a directory with all below it, symbolic links not followed; nothing there is fine.
Status RemoveTree(const std::string& path);
// Names in a directory, sorted.
StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);
bool PathExists(const std::string& path);

// Makes entries of a directory (creations, renames, removals) durable.
Status SyncDirectory(const std::string& path);

}  // namespace trireme
