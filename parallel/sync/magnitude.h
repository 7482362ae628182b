// Magnitudes as integers: the bits of a float, sign cleared. Their order is that of |x|, with
// infinities above all numbers and NaNs above infinities.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace trireme {

template <typename T>
using MagnitudeOf = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <typename T>
inline MagnitudeOf<T> Magnitude(T x) {
  using U = MagnitudeOf<T>;
  return std::bit_cast<U>(x) & (~U{0} >> 1);
}

}  // namespace trireme
