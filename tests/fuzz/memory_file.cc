#include <sys/mman.h>
#include <unistd.h>

#include "core/base/log.h"
#include "tests/fuzz/target.h"

namespace trireme::fuzz {

MemoryFile::MemoryFile(absl::string_view contents)
    : fd_(memfd_create("fuzz", MFD_CLOEXEC)), path_("/proc/self/fd/" + std::to_string(fd_)) {
  CHECK_GE(fd_, 0);
  CHECK_EQ(write(fd_, contents.data(), contents.size()), static_cast<ssize_t>(contents.size()));
}

MemoryFile::~MemoryFile() { close(fd_); }

}  // namespace trireme::fuzz
