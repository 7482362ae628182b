// The scale that codecs of few bits share: the largest magnitude of a block. It travels in the
// values' type, so that it neither overflows nor underflows, whatever the block; what is not finite
// in a block makes its scale so and, by it, every decoded value of the block.
#pragma once

#include <cmath>
#include <limits>

#include "parallel/sync/block_codec.h"
#include "parallel/sync/magnitude.h"

namespace trireme {

template <typename T>
T LargestMagnitude(const T* x, int64_t n) {
  MagnitudeOf<T> largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, Magnitude(x[i]));
  return std::bit_cast<T>(largest);
}

// x * lift * to_levels is in [-levels, levels]; level * from_levels * drop is x again. The power of
// two `lift` keeps the reciprocal of a denormal scale finite; drop is its inverse.
template <typename T>
struct BlockScale {
  BlockScale(T largest, T levels) {
    const bool tiny = largest < (sizeof(T) == 8 ? T(0x1p-800) : T(0x1p-80));
    lift = tiny ? (sizeof(T) == 8 ? T(0x1p512) : T(0x1p64)) : T(1);
    drop = 1 / lift;
    to_levels = largest == 0 ? 0 : levels / (largest * lift);
    from_levels = largest * lift / levels;
  }
  T lift, drop, to_levels, from_levels;
};

// A power of two by which to multiply f64 values before they are squared: 1 unless the squares
// would leave the range. Not finite what is not.
inline double LiftForSquares(double largest) {
  if (largest == 0 || !std::isfinite(largest)) return 1;
  const int exponent = std::ilogb(largest);
  return std::abs(exponent) < 400 ? 1 : std::ldexp(1.0, -std::clamp(exponent, -1000, 1000));
}

inline constexpr ParamInfo kScaledBlockParams[] = {
    {"block", ParamType::kInt, "512", "elements that share a scale; 0: the whole parameter", 0},
};

// alpha of a codec whose error is at most `relative` of an element or `absolute` of the block's
// largest magnitude, whichever is more.
inline double ScaledContraction(const Shape& parameter, int64_t block, double relative,
                                double absolute) {
  const int64_t whole = parameter.numel();
  const double n = static_cast<double>(block == 0 ? whole : std::min(block, whole));
  return std::max(0.0, 1 - relative * relative - n * absolute * absolute);
}

}  // namespace trireme
