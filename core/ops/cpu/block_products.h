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

// One product of a sum of products. With `lower`, what the left matrix has above its diagonal is
// zero. What is summed up to it, itself included, is then multiplied by factors: one a row, or one
// an element (rows of ld_factors).
template <typename A>
struct Term {
  LeftFactor<A> a;
  const A* b;
  int64_t ldb;
  int64_t k;
  bool lower = false;
  const A* row_factors = nullptr;
  const A* factors = nullptr;
  int64_t ld_factors = 0;
};

// kRows rows of kVectors vectors of a sum of products, which stay in registers from the first
// product to the last.
template <typename A, int kRows, int kVectors>
class ProductTile {
 public:
  static constexpr int64_t kLanes = Simd<A>::kLanes;

  template <bool kTransposed>
  [[gnu::always_inline]] void Add(int64_t k, const A* a, int64_t lda, const A* b, int64_t ldb) {
    for (int64_t s = 0; s < k; ++s) {
      VectorOf<A> right[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) right[v] = At(b + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const VectorOf<A> left = Broadcast(a[kTransposed ? r : r * lda]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum_[r][v] = MultiplyAdd(left, right[v], sum_[r][v]);
      }
      a += kTransposed ? lda : 1;
      b += ldb;
    }
  }
  // fn(row, offset in it, sum)
  template <typename Fn>
  [[gnu::always_inline]] void ForAll(Fn fn) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) fn(r, v * kLanes, sum_[r][v]);
    }
  }

 private:
  VectorOf<A> sum_[kRows][kVectors] = {};
};

// Columns [0, kVectors vectors) of c[m, n] = the sum of terms, and what `keep` says.
template <typename A, int kVectors>
[[gnu::noinline]] void SumPanel(int64_t m, const Term<A>* terms, int num_terms, int64_t column,
                                A* c, int64_t ldc, const Keep<A>& keep) {
  constexpr int kRows = kProductRows;
  const A* old = (keep.from != nullptr ? keep.from : c) + column;
  c += column;
  for (int64_t i = 0; i < m; i += kRows) {
    ProductTile<A, kRows, kVectors> tile;
    for (int t = 0; t < num_terms; ++t) {
      const Term<A>& term = terms[t];
      const A* b = term.b + column;
      if (term.a.transposed) {
        const int64_t from = term.lower ? i : 0;
        tile.template Add<true>(term.k - from, term.a.data + from * term.a.ld + i, term.a.ld,
                                b + from * term.ldb, term.ldb);
      } else {
        const int64_t k = term.lower ? std::min(term.k, i + kRows) : term.k;
        tile.template Add<false>(k, term.a.data + i * term.a.ld, term.a.ld, b, term.ldb);
      }
      if (term.row_factors != nullptr) {
        const A* factors = term.row_factors + i;
        tile.ForAll([=](int r, int64_t, VectorOf<A>& x)
                        __attribute__((always_inline)) { x *= Broadcast(factors[r]); });
      } else if (term.factors != nullptr) {
        const A* factors = term.factors + i * term.ld_factors + column;
        const int64_t ld = term.ld_factors;
        tile.ForAll([=](int r, int64_t j, VectorOf<A>& x)
                        __attribute__((always_inline)) { x *= At(factors + r * ld + j); });
      }
    }
    // What was there comes last, so that the products need not wait for it.
    if (keep.row_factors != nullptr) {
      const A* factors = keep.row_factors + i;
      tile.ForAll([=](int r, int64_t j, VectorOf<A>& x) __attribute__((always_inline)) {
        x = MultiplyAdd(Broadcast(factors[r]), At(old + r * ldc + j), x);
      });
    } else if (keep.column_factors != nullptr) {
      const A* factors = keep.column_factors + column;
      tile.ForAll([=](int r, int64_t j, VectorOf<A>& x) __attribute__((always_inline)) {
        x = MultiplyAdd(At(factors + j), At(old + r * ldc + j), x);
      });
    } else if (keep.any) {
      tile.ForAll([=](int r, int64_t j, VectorOf<A>& x)
                      __attribute__((always_inline)) { x += At(old + r * ldc + j); });
    }
    tile.ForAll([=](int r, int64_t j, VectorOf<A>& x)
                    __attribute__((always_inline)) { At(c + r * ldc + j) = x; });
    c += kRows * ldc;
    old += kRows * ldc;
  }
}

// c[m, n] = the sum of terms a[m, k] b[k, n] in their order, with what `keep` adds. m is a multiple
// of kProductRows, n of a vector.
template <typename A>
void SumOfProducts(int64_t m, int64_t n, const Term<A>* terms, int num_terms, A* c, int64_t ldc,
                   const Keep<A>& keep = {}) {
  constexpr int64_t kLanes = Simd<A>::kLanes;
  int64_t j = 0;
  for (; j + 2 * kLanes <= n; j += 2 * kLanes) {
    SumPanel<A, 2>(m, terms, num_terms, j, c, ldc, keep);
  }
  if (j < n) SumPanel<A, 1>(m, terms, num_terms, j, c, ldc, keep);
}
template <typename A>
void Multiply(int64_t m, int64_t n, int64_t k, LeftFactor<A> a, const A* b, int64_t ldb, A* c,
              int64_t ldc, const Keep<A>& keep = {}) {
  const Term<A> term = {a, b, ldb, k};
  SumOfProducts(m, n, &term, 1, c, ldc, keep);
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
