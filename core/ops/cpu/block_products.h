// Products of small matrices that lie in the nearest caches, in the registers of whatever vectors
// the program is compiled for.
//
// Matrices are row-major and aligned, their rows padded to whole vectors: the left factor is read
// element by element, by rows or by columns, the right one and the result by vectors. A tile of the
// result stays in registers while the summed dimension passes; nothing is packed. Each element is
// summed in order, whatever the vectors.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/ops/cpu/vectors.h"

namespace trireme {

// Of a tile: with two vectors of columns they leave room for operands in the registers.
inline constexpr int kProductRows = kVectorBytes == 64 ? 8 : 4;

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

}  // namespace trireme
