// Cutting n things into shares for `size` ranks, as evenly as they go.
#pragma once

#include <algorithm>
#include <cstdint>

namespace trireme {

// [first, last) of n: equal shares, the first n % size of them one more.
struct Share {
  int64_t first, last;
  int64_t size() const { return last - first; }
};

constexpr Share ShareOf(int64_t n, int index, int size) {
  const int64_t base = n / size, extra = n % size;
  const int64_t first = index * base + std::min<int64_t>(index, extra);
  return {first, first + base + (index < extra ? 1 : 0)};
}

}  // namespace trireme
