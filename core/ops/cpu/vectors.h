// Vectors of whatever the program is compiled for, which kernels hold in registers: arithmetic, and
// squares of them turned or summed. Memory is aligned to a vector.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <utility>

namespace trireme {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <typename A>
struct Simd {
  typedef A Vector __attribute__((vector_size(kVectorBytes), may_alias));
  static constexpr int64_t kLanes = kVectorBytes / sizeof(A);
};
template <typename A>
using VectorOf = typename Simd<A>::Vector;

// `size` up to whole vectors of either type, and whole tiles of rows.
inline constexpr int64_t PaddedWidth(int64_t size) { return (size + 15) / 16 * 16; }

template <typename A>
[[gnu::always_inline]] inline VectorOf<A>& At(A* p) {
  return *reinterpret_cast<VectorOf<A>*>(p);
}
template <typename A>
[[gnu::always_inline]] inline const VectorOf<A>& At(const A* p) {
  return *reinterpret_cast<const VectorOf<A>*>(p);
}

// a b + c, rounded once where the processor can.
[[gnu::always_inline]] inline VectorOf<float> MultiplyAdd(VectorOf<float> a, VectorOf<float> b,
                                                          VectorOf<float> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}
[[gnu::always_inline]] inline VectorOf<double> MultiplyAdd(VectorOf<double> a, VectorOf<double> b,
                                                           VectorOf<double> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__FMA__) && defined(__AVX2__)
  return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

template <typename A>
[[gnu::always_inline]] inline VectorOf<A> Broadcast(A x) {
  return x - VectorOf<A>{};
}

// Lanes of a and b in blocks of kStep: the even blocks of both, or the odd ones.
template <typename A, int kStep, bool kOdd, size_t... lane>
[[gnu::always_inline]] inline VectorOf<A> Blocks(VectorOf<A> a, VectorOf<A> b,
                                                 std::index_sequence<lane...>) {
  constexpr int kLanes = Simd<A>::kLanes;
  return __builtin_shufflevector(
      a, b,
      ((lane & kStep) == 0 ? lane + (kOdd ? kStep : 0) : kLanes + lane - (kOdd ? 0 : kStep))...);
}

// Rows of a square of vectors become columns, halves first.
template <typename A, int kStep>
[[gnu::always_inline]] inline void TransposeSquare(VectorOf<A> (&x)[Simd<A>::kLanes]) {
  constexpr int kLanes = Simd<A>::kLanes;
  using Lanes = std::make_index_sequence<kLanes>;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if ((i & kStep) != 0) continue;
    const VectorOf<A> a = x[i], b = x[i + kStep];
    x[i] = Blocks<A, kStep, false>(a, b, Lanes());
    x[i + kStep] = Blocks<A, kStep, true>(a, b, Lanes());
  }
  if constexpr (kStep > 1) TransposeSquare<A, kStep / 2>(x);
}

// The sums of the lanes of each vector, one a lane: half as many vectors a step.
template <typename A, int kStep = Simd<A>::kLanes / 2>
[[gnu::always_inline]] inline VectorOf<A> SumsOfLanes(VectorOf<A> (&x)[Simd<A>::kLanes]) {
  using Lanes = std::make_index_sequence<Simd<A>::kLanes>;
#pragma GCC unroll 16
  for (int i = 0; i < kStep; ++i) {
    x[i] = Blocks<A, kStep, false>(x[i], x[i + kStep], Lanes()) +
           Blocks<A, kStep, true>(x[i], x[i + kStep], Lanes());
  }
  if constexpr (kStep > 1) {
    return SumsOfLanes<A, kStep / 2>(x);
  } else {
    return x[0];
  }
}

// Columns of a square of vectors.
template <typename A>
[[gnu::always_inline]] inline void TransposeTile(const A* from, int64_t ld,
                                                 VectorOf<A> (&x)[Simd<A>::kLanes]) {
#pragma GCC unroll 16
  for (int64_t r = 0; r < Simd<A>::kLanes; ++r) x[r] = At(from + r * ld);
  TransposeSquare<A, Simd<A>::kLanes / 2>(x);
}

// to[columns, rows] = the transpose of from[rows, columns]; both are multiples of a vector.
template <typename A>
[[gnu::noinline]] void Transpose(int64_t rows, int64_t columns, const A* from, int64_t ld_from,
                                 A* to, int64_t ld_to) {
  constexpr int64_t kLanes = Simd<A>::kLanes;
  for (int64_t i = 0; i < rows; i += kLanes) {
    for (int64_t j = 0; j < columns; j += kLanes) {
      VectorOf<A> x[kLanes];
      TransposeTile(from + i * ld_from + j, ld_from, x);
#pragma GCC unroll 16
      for (int64_t r = 0; r < kLanes; ++r) At(to + (j + r) * ld_to + i) = x[r];
    }
  }
}

// fn(a vector's offset) over `size` elements, whole vectors.
template <typename A, typename Fn>
[[gnu::always_inline]] inline void ForVectors(int64_t size, Fn fn) {
  for (int64_t i = 0; i < size; i += Simd<A>::kLanes) fn(i);
}

}  // namespace trireme
