// A directory that lives as long as the object; optionally a tmpfs of its own that really fills.
#pragma once

#include <cstdint>
#include <string>

namespace trireme::testing {

class TemporaryDirectory {
 public:
  TemporaryDirectory();
  // A mounted tmpfs of `bytes`. When mounting is not permitted, mounted() is false: skip the test.
  explicit TemporaryDirectory(int64_t bytes);
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  bool mounted() const { return mounted_; }

 private:
  std::string path_;
  bool mounted_ = false;
};

}  // namespace trireme::testing
