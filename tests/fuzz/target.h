// A fuzz target is one function on bytes. fuzzer_main.cc lets libFuzzer call it, replay_main.cc
// runs it over the committed corpus in `make test`.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace trireme::fuzz {

// Defined by each target: whether its parser accepts the input. Aborts when it does and what it
// made of it breaks a promise.
bool Accepts(absl::string_view input);

// A file in memory, for parsers that read files.
class MemoryFile {
 public:
  explicit MemoryFile(absl::string_view contents);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  int fd_;
  std::string path_;
};

}  // namespace trireme::fuzz
