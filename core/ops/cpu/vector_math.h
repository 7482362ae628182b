// Elementary functions that GCC vectorizes inside `#pragma omp simd` loops: no branches, no tables,
// no calls, for float and double. Errors in units of the last place, as vector_math_test.cc
// measures them against a wider type: Exp 1.25, Expm1 2, Tanh 2.5, Sigmoid 2.5, Erf (float) 2. NaN
// gives NaN.
//
// Method: x = n ln 2 + r with |r| <= ln(2) / 2 (Cody and Waite 1980) and e^r - 1 = r + r^2 q(r)
// with a polynomial q close to minimax. e^r - 1 is kept apart from the 1, so that Tanh is exact
// near zero too.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

// A call left in a loop keeps GCC from vectorizing it.
#define TRIREME_INLINE [[gnu::always_inline]] inline

namespace trireme {
namespace vector_math_internal {

template <typename T>
struct Constants;

template <>
struct Constants<float> {
  using Bits = uint32_t;
  static constexpr int kMantissaBits = 23;
  static constexpr Bits kExponentBias = 127;
  static constexpr float kRound = 0x1.8p23f;  // Adding it rounds to an integer in the low bits.
  static constexpr float kLog2E = 0x1.715476p0f;
  static constexpr float kLn2Hi = 0x1.62e4p-1f;  // n * kLn2Hi is exact.
  static constexpr float kLn2Lo = 0x1.7f7d1cp-20f;
  static constexpr float kLow = -104, kHigh = 89;  // e^x rounds to 0 below, to infinity above.
  static constexpr float kTanhIsOne = 10;
};

template <>
struct Constants<double> {
  using Bits = uint64_t;
  static constexpr int kMantissaBits = 52;
  static constexpr Bits kExponentBias = 1023;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLog2E = 0x1.71547652b82fep0;
  static constexpr double kLn2Hi = 0x1.62e42fefa3800p-1;
  static constexpr double kLn2Lo = 0x1.ef35793c76730p-45;
  static constexpr double kLow = -746, kHigh = 710;
  static constexpr double kTanhIsOne = 20;
};

// q(r) = (e^r - 1 - r) / r^2; the error of r^2 q is 8e-9 and 2e-19.
TRIREME_INLINE float ExpTail(float r) {
  float q = 1.392692661e-3f;
  q = std::fma(q, r, 8.363773874e-3f);
  q = std::fma(q, r, 4.166655011e-2f);
  q = std::fma(q, r, 1.666657338e-1f);
  return std::fma(q, r, 0.5f);
}

TRIREME_INLINE double ExpTail(double r) {
  double q = 2.09154422977801152e-9;
  q = std::fma(q, r, 2.51062747335732947e-8);
  q = std::fma(q, r, 2.75572718102197996e-7);
  q = std::fma(q, r, 2.75572528335169097e-6);
  q = std::fma(q, r, 2.48015873270071867e-5);
  q = std::fma(q, r, 1.98412698768643549e-4);
  q = std::fma(q, r, 1.38888888888833267e-3);
  q = std::fma(q, r, 8.3333333333255447e-3);
  q = std::fma(q, r, 4.16666666666666701e-2);
  q = std::fma(q, r, 1.66666666666666714e-1);
  return std::fma(q, r, 0.5);
}

// e^x = (1 + m1) * scale_a * scale_b. Two factors, since e^x may be subnormal or n = 128. For x in
// [kLow, kHigh]; callers clamp, once: GCC turns two clamps in a row into jumps, which do not
// vectorize.
template <typename T>
struct ExpParts {
  T m1, scale_a, scale_b;
};

template <typename T>
TRIREME_INLINE ExpParts<T> SplitExp(T x) {
  using C = Constants<T>;
  using Bits = typename C::Bits;
  const T shifted = std::fma(x, C::kLog2E, C::kRound);
  const T n = shifted - C::kRound;
  T r = std::fma(n, -C::kLn2Hi, x);
  r = std::fma(n, -C::kLn2Lo, r);
  const T m1 = std::fma(r * r, ExpTail(r), r);
  // n >= -2 * bias, so n + 2 * bias is not negative; its halves are the biased exponents.
  const Bits biased =
      std::bit_cast<Bits>(shifted) - std::bit_cast<Bits>(C::kRound) + 2 * C::kExponentBias;
  const Bits half = biased >> 1;
  return {m1, std::bit_cast<T>(half << C::kMantissaBits),
          std::bit_cast<T>((biased - half) << C::kMantissaBits)};
}

template <typename T>
TRIREME_INLINE T Clamp(T x) {
  x = x < Constants<T>::kLow ? Constants<T>::kLow : x;
  return x > Constants<T>::kHigh ? Constants<T>::kHigh : x;
}

template <typename T>
TRIREME_INLINE T ExpInRange(T x) {
  const ExpParts<T> e = SplitExp(x);
  return (e.m1 + 1) * e.scale_a * e.scale_b;
}

template <typename T>
TRIREME_INLINE T Expm1InRange(T x) {
  const ExpParts<T> e = SplitExp(x);
  const T scale = e.scale_a * e.scale_b;
  return std::fma(e.m1, scale, scale - 1);
}

}  // namespace vector_math_internal

// e^x, subnormal results and both infinities included.
template <typename T>
TRIREME_INLINE T Exp(T x) {
  return vector_math_internal::ExpInRange(vector_math_internal::Clamp(x));
}

// e^x - 1, for x up to where e^x overflows.
template <typename T>
TRIREME_INLINE T Expm1(T x) {
  return vector_math_internal::Expm1InRange(vector_math_internal::Clamp(x));
}

// (e^2|x| - 1) / (e^2|x| + 1) with the sign of x.
template <typename T>
TRIREME_INLINE T Tanh(T x) {
  constexpr T kOne = vector_math_internal::Constants<T>::kTanhIsOne;
  T magnitude = std::abs(x);
  magnitude = magnitude > kOne ? kOne : magnitude;
  const T e = vector_math_internal::Expm1InRange(2 * magnitude);
  return std::copysign(e / (e + 2), x);
}

// 1 / (1 + e^-x); results below the smallest normal number are zero.
template <typename T>
TRIREME_INLINE T Sigmoid(T x) {
  return 1 / (1 + Exp(-x));
}

// The error function: x times a polynomial in x^2 below 0.9, else 1 - e^p(|x|) with p close to log
// erfc.
TRIREME_INLINE float Erf(float x) {
  const float a = std::abs(x), z = x * x;
  float s = -6.102687037e-4f;
  s = std::fma(s, z, 5.014484151e-3f);
  s = std::fma(s, z, -2.678071913e-2f);
  s = std::fma(s, z, 1.128219409e-1f);
  s = std::fma(s, z, -3.76125288e-1f);
  s = std::fma(s, z, 1.283791547e-1f);
  const float small = std::fma(s, a, a);

  const float c = a > 4.0f ? 4.0f : a;
  float p = 1.643063656e-6f;
  p = std::fma(p, c, -4.616385863e-5f);
  p = std::fma(p, c, 5.975857702e-4f);
  p = std::fma(p, c, -4.762625833e-3f);
  p = std::fma(p, c, 2.642763715e-2f);
  p = std::fma(p, c, -1.100871665e-1f);
  p = std::fma(p, c, -6.318239181e-1f);
  p = std::fma(p, c, -1.130231055f);
  p = std::fma(p, c, 3.185396624e-4f);
  const float large = 1 - vector_math_internal::ExpInRange(p);
  return std::copysign(a > 0.9f ? large : small, x);
}

// f64 is the type of references and checks: accuracy before speed.
TRIREME_INLINE double Erf(double x) { return std::erf(x); }

}  // namespace trireme

#undef TRIREME_INLINE
