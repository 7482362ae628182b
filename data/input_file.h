// The bytes of a file in order, unpacked when it is gzip (RFC 1952), several members and dictzip
// included.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/status.h"

namespace trireme {

class InputFile {
 public:
  virtual ~InputFile() = default;

  // gzip is recognized by its first two bytes, whatever the name.
  static StatusOr<std::unique_ptr<InputFile>> Open(const std::string& path);

  // Fills `data`; returns fewer than `bytes` only at the end of the file. DATA_LOSS naming the file
  // and the offset in it when gzip data are corrupt, cut short or followed by something else.
  virtual StatusOr<size_t> Read(char* data, size_t bytes) = 0;
};

// The files that a comma-separated list of paths and glob patterns names, each pattern's matches in
// order of their names. NOT_FOUND when an item matches nothing, INVALID_ARGUMENT when the list is
// empty.
StatusOr<std::vector<std::string>> ExpandFileList(absl::string_view list);

}  // namespace trireme
