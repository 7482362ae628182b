// Products in the registers of AVX-512: the innermost loops of products and attention.
//
// Operands are packed into panels: of a, kTileRows rows; of b, kTileColumns columns; for each step
// along the summed dimension the panel's entries side by side. A step is one 32-bit word: an f32,
// or a pair of bf16 that the processor multiplies and adds at once. The tile of c that two panels
// give stays in registers: 14 rows of two vectors, two vectors of b and one entry of a make 31 of
// 32 registers, and 28 multiply-adds a step hide the latency and the 16 loads. (Measured on a Zen
// 4, operands in the second cache: 98 % of the processor's peak in both types.)
//
// panel_packing.h packs the panels. For functions between TRIREME_AVX512_BEGIN and END only, in
// files that ask HasRegisterTiles first.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "core/ops/cpu/avx512.h"
#include "core/tensor/dtype.h"

TRIREME_AVX512_BEGIN

namespace trireme {

inline constexpr int kTileRows = 14, kTileColumns = 32;
inline constexpr int kVector = 16;  // Words of a vector.

// The first `count` lanes of a vector.
inline __mmask16 FirstLanes(int64_t count) {
  return count >= kVector ? 0xFFFF : static_cast<__mmask16>((1u << (count > 0 ? count : 0)) - 1);
}

template <bool kPairs>
[[gnu::always_inline]] inline __m512 MultiplyAdd(__m512 a, __m512 b, __m512 sum) {
  if constexpr (kPairs) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  } else {
    return _mm512_fmadd_ps(a, b, sum);
  }
}

// sum += a b over `words` steps of two panels, for the first kRows rows. Entries of a step lie side
// by side, steps lie a_step and b_step words apart.
template <bool kPairs, int kRows>
[[gnu::always_inline]] inline void MultiplyPanels(int64_t words, const float* a, int64_t a_step,
                                                  const float* b, int64_t b_step,
                                                  __m512 (&sum)[kRows][2]) {
  for (int64_t w = 0; w < words; ++w) {
    const __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + kVector);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512 x = _mm512_set1_ps(a[r]);
      sum[r][0] = MultiplyAdd<kPairs>(x, b0, sum[r][0]);
      sum[r][1] = MultiplyAdd<kPairs>(x, b1, sum[r][1]);
    }
    a += a_step;
    b += b_step;
  }
}

template <int kRows>
[[gnu::always_inline]] inline void Clear(__m512 (&sum)[kRows][2]) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
}

// Operands of one tile.
struct TilePanels {
  int64_t words;
  const float* a;
  int64_t a_step;
  const float* b;
  int64_t b_step;
};

// c = keep * c + a b for `rows` rows (at most kTileRows) and `columns` columns (at most
// kTileColumns), with a factor for each column; with `fresh`, c = a b, and c is not read.
template <bool kPairs, int kRows>
[[gnu::noinline]] void AddTileOf(const TilePanels& p, float* c, int64_t ldc, int64_t columns,
                                 bool fresh, __m512 keep0, __m512 keep1) {
  __m512 sum[kRows][2];
  Clear(sum);
  MultiplyPanels<kPairs, kRows>(p.words, p.a, p.a_step, p.b, p.b_step, sum);
  const __mmask16 lanes0 = FirstLanes(columns), lanes1 = FirstLanes(columns - kVector);
  const __mmask16 read0 = fresh ? 0 : lanes0, read1 = fresh ? 0 : lanes1;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    float* row = c + r * ldc;
    const __m512 c0 = _mm512_maskz_loadu_ps(read0, row);
    const __m512 c1 = _mm512_maskz_loadu_ps(read1, row + kVector);
    _mm512_mask_storeu_ps(row, lanes0, _mm512_fmadd_ps(c0, keep0, sum[r][0]));
    _mm512_mask_storeu_ps(row + kVector, lanes1, _mm512_fmadd_ps(c1, keep1, sum[r][1]));
  }
}

template <bool kPairs>
inline void AddTile(int64_t rows, const TilePanels& panels, float* c, int64_t ldc, int64_t columns,
                    bool fresh, __m512 keep0 = _mm512_set1_ps(1),
                    __m512 keep1 = _mm512_set1_ps(1)) {
  static constexpr auto kByRows = []<int... r>(std::integer_sequence<int, r...>) {
    return std::array{&AddTileOf<kPairs, r + 1>...};
  }
  (std::make_integer_sequence<int, kTileRows>());
  kByRows[rows - 1](panels, c, ldc, columns, fresh, keep0, keep1);
}

// GCC 12 warns of its own header where these are used without a mask.
[[gnu::always_inline]] inline __m512 Max(__m512 a, __m512 b) {
  return _mm512_maskz_max_ps(0xFFFF, a, b);
}

// e^x as vector_math.h computes it, for x of at most 0: below -104 it is 0.
[[gnu::always_inline]] inline __m512 ExpNegative(__m512 x) {
  x = Max(_mm512_set1_ps(-104), x);
  const __m512 n = _mm512_maskz_roundscale_ps(0xFFFF, x * _mm512_set1_ps(0x1.715476p0f), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
  __m512 q = _mm512_set1_ps(1.392692661e-3f);
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(8.363773874e-3f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(4.166655011e-2f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(1.666657338e-1f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0.5f));
  const __m512 m1 = _mm512_fmadd_ps(r * r, q, r);
  return _mm512_maskz_scalef_ps(0xFFFF, m1 + _mm512_set1_ps(1), n);
}

}  // namespace trireme

TRIREME_AVX512_END
