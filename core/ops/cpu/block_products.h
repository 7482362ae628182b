// Products of small matrices that lie in the nearest caches, in the registers of whatever vectors
// the program is compiled for.
//
// Matrices are row-major and aligned, their rows padded to whole vectors: the left factor is read
// element by element, by rows or by columns, the right one and the result by vectors. A tile of the
// result stays in registers while the summed dimension passes; nothing is packed. Each element is
// summed in order, whatever the vectors.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <utility>

namespace trireme {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64, kProductRows = 8;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32, kProductRows = 4;
#else
inline constexpr int kVectorBytes = 16, kProductRows = 4;
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

// The left factor [m, k] of a product: element (i, s) is data[i * ld + s], or of the transpose
// data[s * ld + i].
template <typename A>
struct LeftFactor {
  const A* data;
  int64_t ld;
  bool transposed = false;
};

// What is added to a product: nothing, or the c that was there, its rows or columns times factors
// first; or, with the same strides, the matrix at `from` in its place.
template <typename A>
struct Keep {
  bool any = false;
  const A* row_factors = nullptr;
  const A* column_factors = nullptr;
  const A* from = nullptr;
};

template <typename A, int kRows, int kVectors, bool kTransposed>
[[gnu::noinline]] void MultiplyTile(int64_t k, const A* a, int64_t lda, const A* b, int64_t ldb,
                                    A* c, int64_t ldc, Keep<A> keep) {
  constexpr int64_t kLanes = Simd<A>::kLanes;
  VectorOf<A> sum[kRows][kVectors] = {};
  const auto for_all = [&](auto fn) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) fn(r, v, sum[r][v]);
    }
  };
  for (int64_t s = 0; s < k; ++s) {
    VectorOf<A> right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) right[v] = At(b + s * ldb + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const VectorOf<A> left = Broadcast(kTransposed ? a[s * lda + r] : a[r * lda + s]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = MultiplyAdd(left, right[v], sum[r][v]);
    }
  }
  // What was there comes last, so that the products need not wait for it.
  if (keep.any) {
    const A* old = keep.from != nullptr ? keep.from : c;
    if (keep.row_factors != nullptr) {
      for_all([&](int r, int v, VectorOf<A>& x) {
        x = MultiplyAdd(Broadcast(keep.row_factors[r]), At(old + r * ldc + v * kLanes), x);
      });
    } else if (keep.column_factors != nullptr) {
      for_all([&](int r, int v, VectorOf<A>& x) {
        x = MultiplyAdd(At(keep.column_factors + v * kLanes), At(old + r * ldc + v * kLanes), x);
      });
    } else {
      for_all([&](int r, int v, VectorOf<A>& x) { x += At(old + r * ldc + v * kLanes); });
    }
  }
  for_all([&](int r, int v, VectorOf<A>& x) { At(c + r * ldc + v * kLanes) = x; });
}

// c[m, n] = a[m, k] b[k, n], or added to c. m is a multiple of kProductRows, n of a vector.
template <typename A>
void Multiply(int64_t m, int64_t n, int64_t k, LeftFactor<A> a, const A* b, int64_t ldb, A* c,
              int64_t ldc, Keep<A> keep = {}) {
  constexpr int64_t kLanes = Simd<A>::kLanes;
  const auto two = a.transposed ? MultiplyTile<A, kProductRows, 2, true>
                                : MultiplyTile<A, kProductRows, 2, false>;
  const auto one = a.transposed ? MultiplyTile<A, kProductRows, 1, true>
                                : MultiplyTile<A, kProductRows, 1, false>;
  for (int64_t j = 0; j < n;) {
    const bool wide = j + 2 * kLanes <= n;
    for (int64_t i = 0; i < m; i += kProductRows) {
      Keep<A> part = keep;
      if (part.row_factors != nullptr) part.row_factors += i;
      if (part.column_factors != nullptr) part.column_factors += j;
      if (part.from != nullptr) part.from += i * ldc + j;
      (wide ? two : one)(k, a.data + (a.transposed ? i : i * a.ld), a.ld, b + j, ldb,
                         c + i * ldc + j, ldc, part);
    }
    j += wide ? 2 * kLanes : kLanes;
  }
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

// to[columns, rows] = the transpose of from[rows, columns]; both are multiples of a vector.
template <typename A>
[[gnu::noinline]] void Transpose(int64_t rows, int64_t columns, const A* from, int64_t ld_from,
                                 A* to, int64_t ld_to) {
  constexpr int64_t kLanes = Simd<A>::kLanes;
  for (int64_t i = 0; i < rows; i += kLanes) {
    for (int64_t j = 0; j < columns; j += kLanes) {
      VectorOf<A> x[kLanes];
#pragma GCC unroll 16
      for (int64_t r = 0; r < kLanes; ++r) x[r] = At(from + (i + r) * ld_from + j);
      TransposeSquare<A, kLanes / 2>(x);
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
