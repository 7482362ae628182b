#include "tests/testing/temporary_directory.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mount.h>

#include <filesystem>

#include "core/base/log.h"

namespace trireme::testing {

TemporaryDirectory::TemporaryDirectory() : path_(::testing::TempDir() + "trireme-XXXXXX") {
  CHECK(mkdtemp(path_.data()) != nullptr) << path_;
}

TemporaryDirectory::TemporaryDirectory(int64_t bytes) : TemporaryDirectory() {
  const std::string size = "size=" + std::to_string(bytes);
  mounted_ = mount("tmpfs", path_.c_str(), "tmpfs", 0, size.c_str()) == 0;
}

TemporaryDirectory::~TemporaryDirectory() {
  if (mounted_) CHECK_EQ(umount2(path_.c_str(), MNT_DETACH), 0) << path_;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace trireme::testing
