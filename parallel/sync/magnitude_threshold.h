// The k-th largest magnitude of a vector, exactly, at the speed of a few passes over it.
//
// One pass counts them by their leading
// bits (a histogram), which says in which bucket the k-th is; a selection among that bucket's
// members finds it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "core/base/log.h"
#include "parallel/sync/magnitude.h"

namespace trireme {

// fn(i) for each i of [0, n), rising, of which pred(i) holds, few of them: 64 at a time are looked
// at by vectors, and no branch is taken for those that are passed over.
template <typename Pred, typename Fn>
void ForEachWhere(int64_t n, Pred&& pred, Fn&& fn) {
  int64_t first = 0;
  for (; first + 64 <= n; first += 64) {
    uint8_t flags[64];
#pragma omp simd
    for (int i = 0; i < 64; ++i) flags[i] = pred(first + i) ? 1 : 0;
    uint64_t mask = 0;
    for (int word = 0; word < 8; ++word) {
      uint64_t eight;
      std::memcpy(&eight, flags + 8 * word, 8);
      // Byte i of the eight, 0 or 1, goes to bit 56 + i; no two products meet.
      mask |= (eight * 0x0102040810204080 >> 56) << (8 * word);
    }
    for (; mask != 0; mask &= mask - 1) fn(first + std::countr_zero(mask));
  }
  for (; first < n; ++first) {
    if (pred(first)) fn(first);
  }
}

template <typename T>
struct MagnitudeThreshold {
  MagnitudeOf<T> magnitude = 0;  // The k-th largest.
  int64_t num_equal = 0;         // How many of those equal to it are among the k.
};

// k in [1, n].
template <typename T>
MagnitudeThreshold<T> FindMagnitudeThreshold(const T* x, int64_t n, int64_t k) {
  using U = MagnitudeOf<T>;
  constexpr int kBucketBits = 11;
  constexpr int kShift = 8 * sizeof(U) - 1 - kBucketBits;
  CHECK_LT(n, int64_t{1} << 32) << "a block larger than the counts of buckets hold";
  constexpr int kNumBuckets = 1 << kBucketBits;
  // In turns: elements next to each other are often in one bucket.
  int64_t i = 0;
  uint32_t counts[kNumBuckets] = {}, others[kNumBuckets] = {};
  for (; i + 1 < n; i += 2) {
    ++counts[Magnitude(x[i]) >> kShift];
    ++others[Magnitude(x[i + 1]) >> kShift];
  }
  if (i < n) ++counts[Magnitude(x[i]) >> kShift];

  int64_t above = 0;  // In higher buckets.
  U bucket = kNumBuckets - 1;
  const auto count = [&](U b) { return int64_t{counts[b]} + others[b]; };
  while (above + count(bucket) < k) above += count(bucket--);

  std::vector<U> members(count(bucket));
  int64_t num_members = 0;
  ForEachWhere(
      n, [&](int64_t j) { return Magnitude(x[j]) >> kShift == bucket; },
      [&](int64_t j) { members[num_members++] = Magnitude(x[j]); });
  const auto kth = members.begin() + (k - above - 1);
  std::nth_element(members.begin(), kth, members.end(), std::greater<U>());
  const U threshold = *kth;
  const int64_t larger =
      std::count_if(members.begin(), kth, [&](U magnitude) { return magnitude > threshold; });
  return {threshold, k - above - larger};
}

}  // namespace trireme
