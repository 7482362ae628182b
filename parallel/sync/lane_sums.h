// Sums over a vector in f64, in partial sums enough to keep the processor's adders busy; their
// order depends on the length alone.
#pragma once

#include <cstdint>
#include <cstring>

namespace trireme {

#if defined(__AVX512F__)
inline constexpr int kLaneBytes = 64;
#elif defined(__AVX__)
inline constexpr int kLaneBytes = 32;
#else
inline constexpr int kLaneBytes = 16;
#endif

using F64Lanes = double __attribute__((vector_size(kLaneBytes)));
inline constexpr int kF64Lanes = kLaneBytes / sizeof(double);

template <typename T>
F64Lanes LoadLanes(const T* x) {
  T __attribute__((vector_size(kF64Lanes * sizeof(T)))) values;
  std::memcpy(&values, x, sizeof values);
  return __builtin_convertvector(values, F64Lanes);
}

// The last, fewer than kF64Lanes; zero the others.
template <typename T>
F64Lanes LoadLanes(const T* x, int64_t n) {
  F64Lanes lanes = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = static_cast<double>(x[i]);
  return lanes;
}

inline double SumOfLanes(F64Lanes x) {
  double sum = 0;
  for (int lane = 0; lane < kF64Lanes; ++lane) sum += x[lane];
  return sum;
}

// Sum over i of fn(x[i]), fn a function of lanes.
template <typename T, typename Fn>
double LaneSum(const T* x, int64_t n, Fn&& fn) {
  F64Lanes a = {}, b = {}, c = {}, d = {};
  int64_t i = 0;
  for (; i + 4 * kF64Lanes <= n; i += 4 * kF64Lanes) {
    a += fn(LoadLanes(x + i));
    b += fn(LoadLanes(x + i + kF64Lanes));
    c += fn(LoadLanes(x + i + 2 * kF64Lanes));
    d += fn(LoadLanes(x + i + 3 * kF64Lanes));
  }
  for (; i + kF64Lanes <= n; i += kF64Lanes) a += fn(LoadLanes(x + i));
  if (i < n) {
    const F64Lanes last = fn(LoadLanes(x + i, n - i));
    for (int64_t lane = 0; lane < n - i; ++lane) b[lane] += last[lane];
  }
  return SumOfLanes((a + b) + (c + d));
}

using F32Lanes = float __attribute__((vector_size(kLaneBytes)));

// Sum of fn(x[i]) in f32, 1024 of them at a time, and of those sums in f64: to a few rounding
// errors of f32, as long as nothing leaves its range.
template <typename Fn>
double FastLaneSum(const float* x, int64_t n, Fn&& fn) {
  using Lanes = F32Lanes;
  constexpr int64_t kLanes = kLaneBytes / sizeof(float), kChunk = 1024;
  double sum = 0;
  for (int64_t first = 0; first < n; first += kChunk) {
    const int64_t last = n - first < kChunk ? n : first + kChunk;
    Lanes sums[4] = {};
    int64_t i = first;
    for (; i + 4 * kLanes <= last; i += 4 * kLanes) {
      for (int64_t j = 0; j < 4; ++j) {
        Lanes values;
        std::memcpy(&values, x + i + j * kLanes, sizeof values);
        sums[j] += fn(values);
      }
    }
    const Lanes all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (int64_t lane = 0; lane < kLanes; ++lane) sum += static_cast<double>(all[lane]);
    for (; i < last; ++i) sum += static_cast<double>(fn(Lanes{} + x[i])[0]);
  }
  return sum;
}

template <typename T>
double LaneDot(const T* x, const T* y, int64_t n) {
  F64Lanes a = {}, b = {}, c = {}, d = {};
  int64_t i = 0;
  for (; i + 4 * kF64Lanes <= n; i += 4 * kF64Lanes) {
    a += LoadLanes(x + i) * LoadLanes(y + i);
    b += LoadLanes(x + i + kF64Lanes) * LoadLanes(y + i + kF64Lanes);
    c += LoadLanes(x + i + 2 * kF64Lanes) * LoadLanes(y + i + 2 * kF64Lanes);
    d += LoadLanes(x + i + 3 * kF64Lanes) * LoadLanes(y + i + 3 * kF64Lanes);
  }
  for (; i + kF64Lanes <= n; i += kF64Lanes) a += LoadLanes(x + i) * LoadLanes(y + i);
  if (i < n) b += LoadLanes(x + i, n - i) * LoadLanes(y + i, n - i);
  return SumOfLanes((a + b) + (c + d));
}

}  // namespace trireme
