// How CPU kernels read, write and sum elements: always in the accumulation type.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/tensor/dtype.h"

namespace trireme {

template <typename T>
inline AccOf<T> Load(const T* p) {
  return static_cast<AccOf<T>>(*p);
}

template <typename T>
inline void Store(T* p, AccOf<T> value) {
  *p = value;
}
// By member: GCC does not vectorize a loop that assigns whole structs.
inline void Store(bfloat16* p, float value) { p->bits = bfloat16(value).bits; }

// fn(i) for i in [0, n), vectorized: iterations must not depend on one another. A function of its
// own with everything inlined, since GCC vectorizes neither a loop with calls nor many a loop that
// it has merged into a larger function.
template <typename Fn>
[[gnu::noinline, gnu::flatten]] void SimdLoop(int64_t n, Fn fn) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) fn(i);
}

// Sums of a row are kept in this many lanes, element i in lane i % kLanes, folded in halves at the
// end. The order depends on the length only, not on the instruction set.
inline constexpr int kLanes = 32;

template <int width = kLanes / 2, typename A, typename Combine>
inline A FoldLanes(A* lanes, Combine combine) {
  if constexpr (width == 0) {
    return lanes[0];
  } else {
    // The width is a constant, so that the lanes stay in registers.
#pragma omp simd
    for (int j = 0; j < width; ++j) lanes[j] = combine(lanes[j], lanes[j + width]);
    return FoldLanes<width / 2>(lanes, combine);
  }
}

// combine(f(0), f(1), ...) over [0, n), starting from `identity` in every lane.
template <typename A, typename Fn, typename Combine>
[[gnu::noinline, gnu::flatten]] A ReduceRow(int64_t n, A identity, Fn f, Combine combine) {
  A lanes[kLanes];
  std::fill(lanes, lanes + kLanes, identity);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int j = 0; j < kLanes; ++j) lanes[j] = combine(lanes[j], f(i + j));
  }
  for (int j = 0; i + j < n; ++j) lanes[j] = combine(lanes[j], f(i + j));
  return FoldLanes(lanes, combine);
}

template <typename A, typename Fn>
inline A SumRow(int64_t n, Fn f) {
  return ReduceRow(n, A(0), f, [](A a, A b) { return a + b; });
}

}  // namespace trireme
