// A file for a test to read.
#pragma once

#include <fstream>
#include <string>

#include "absl/strings/string_view.h"

#include "core/base/log.h"

namespace trireme::testing {

// Not durable, unlike WriteFileAtomically: tests that write a thousand files need not wait for the
// disk.
inline void WriteTestFile(const std::string& path, absl::string_view contents) {
  std::ofstream file(path, std::ios::binary);
  file.write(contents.data(), contents.size());
  file.close();
  CHECK(file.good()) << path;
}

}  // namespace trireme::testing
