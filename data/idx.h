// IDX files, the format of MNIST: two zero bytes, a type, the number of dimensions, the dimensions
// as big-endian 32-bit integers, then the values. Only unsigned bytes (type 8) are read. Plain or
// gzip.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"

namespace trireme {

struct IdxArray {
  std::vector<int64_t> dims;  // 1 to 255 of them.
  std::string values;
};

// DATA_LOSS naming the file and the offset when it is not exactly one such array;
// RESOURCE_EXHAUSTED when it has more than max_values. No more memory is taken than the file really
// fills.
StatusOr<IdxArray> ReadIdx(const std::string& path, int64_t max_values = int64_t{1} << 36);

}  // namespace trireme
