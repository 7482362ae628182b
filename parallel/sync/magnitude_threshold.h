// The k-th largest magnitude of a vector, exactly, at the speed of a few passes over it.
//
// One pass counts them by their leading
// bits (a histogram), which says in which bucket the k-th is; a selection among that bucket's
// members finds it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/sync/magnitude.h"

namespace trireme {

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
  uint32_t counts[1 << kBucketBits] = {};
  for (int64_t i = 0; i < n; ++i) ++counts[Magnitude(x[i]) >> kShift];

  int64_t above = 0;  // In higher buckets.
  U bucket = (U{1} << kBucketBits) - 1;
  while (above + counts[bucket] < k) above += counts[bucket--];

  std::vector<U> members(counts[bucket] + 1);  // One more: the loop writes before it counts.
  int64_t num_members = 0;
  for (int64_t i = 0; i < n; ++i) {
    const U magnitude = Magnitude(x[i]);
    members[num_members] = magnitude;
    num_members += magnitude >> kShift == bucket;
  }
  members.pop_back();
  const auto kth = members.begin() + (k - above - 1);
  std::nth_element(members.begin(), kth, members.end(), std::greater<U>());
  const U threshold = *kth;
  const int64_t larger =
      std::count_if(members.begin(), kth, [&](U magnitude) { return magnitude > threshold; });
  return {threshold, k - above - larger};
}

}  // namespace trireme
