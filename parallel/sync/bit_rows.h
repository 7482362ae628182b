// Few bits an element, packed so that loops over elements are loops over bytes, too: the elements
// of a block of n are `rows` rows of ceil(n / rows) bytes, and byte l holds, from its low bits on,
// those of element l of each row. (Rows of 8 elements of 1 bit, 4 of 2.)
#pragma once

#include <algorithm>
#include <cstdint>

namespace trireme {

inline int64_t BitRowBytes(int64_t n, int bits) {
  const int64_t rows = 8 / bits;
  return (n + rows - 1) / rows;
}

// fn(row, first, size) for the elements [first, first + size) of each row.
template <typename Fn>
void ForEachBitRow(int64_t n, int bits, Fn&& fn) {
  const int64_t row_size = BitRowBytes(n, bits);
  for (int row = 0; row * bits < 8; ++row) {
    const int64_t first = std::min(n, row * row_size);
    fn(row, first, std::min(row_size, n - first));
  }
}

}  // namespace trireme
