// Products in the registers of AVX-512: the innermost loops of products and attention.
//
// Operands are packed into panels: of a, kTileRows rows; of b, kTileColumns columns; for each step
// along the summed dimension the panel's entries side by side. A step is one 32-bit word: an f32,
// or a pair of bf16 that the processor multiplies and adds at once. The tile of c that two panels
// give stays in registers: 14 rows of two vectors, two vectors of b and one entry of a make 31 of
// 32 registers, and 28 multiply-adds a step hide the latency and the 16 loads. (Measured on a Zen
// 4, operands in the second cache: 98 % of the processor's peak in both types.)
//
// For functions between TRIREME_AVX512_BEGIN and END only, in files that ask HasRegisterTiles
// first.
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

using Words [[gnu::vector_size(64)]] = int32_t;

// 16 halves as unsigned words.
[[gnu::always_inline]] inline Words Widen(__m256i halves) {
  return reinterpret_cast<Words>(_mm512_maskz_cvtepu16_epi32(0xFFFF, halves));
}

// Lane by lane, the bf16 of two vectors: `first` in the lower half of the word.
[[gnu::always_inline]] inline __m512 PairWords(__m512 first, __m512 second) {
  const __m256i low = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(first));
  const __m256i high = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(second));
  return reinterpret_cast<__m512>(Widen(low) | Widen(high) << 16);
}

[[gnu::always_inline]] inline Words EvenQuarters(Words a, Words b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}
[[gnu::always_inline]] inline Words OddQuarters(Words a, Words b) {
  return __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}

// Rows become columns: pairs of rows are interleaved by words, then by pairs of words, in each
// quarter of a vector; then the quarters are brought to their rows.
[[gnu::always_inline]] inline void Transpose(Words (&x)[kVector]) {
  Words t[kVector], u[kVector];
#pragma GCC unroll 16
  for (int i = 0; i < kVector; i += 2) {
    t[i] = __builtin_shufflevector(x[i], x[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28,
                                   13, 29);
    t[i + 1] = __builtin_shufflevector(x[i], x[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27,
                                       14, 30, 15, 31);
  }
  // u[i + j]: columns j, j + 4, j + 8, j + 12 of the rows i to i + 3, a quarter each.
#pragma GCC unroll 16
  for (int i = 0; i < kVector; i += 4) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const Words a = t[i + j], b = t[i + j + 2];
      u[i + 2 * j] =
          __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      u[i + 2 * j + 1] =
          __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const Words low0 = EvenQuarters(u[j], u[4 + j]), high0 = OddQuarters(u[j], u[4 + j]);
    const Words low1 = EvenQuarters(u[8 + j], u[12 + j]), high1 = OddQuarters(u[8 + j], u[12 + j]);
    x[j] = EvenQuarters(low0, low1);
    x[j + 4] = EvenQuarters(high0, high1);
    x[j + 8] = OddQuarters(low0, low1);
    x[j + 12] = OddQuarters(high0, high1);
  }
}

// One side of a product as the packing sees it: `lines` rows of a, or columns of b, and the summed
// dimension k across. Elements of 4 bytes, or of 2 that are paired along k.
struct PanelSource {
  const char* data;
  int64_t ld;  // In elements.
  bool k_contiguous;
  int64_t lines;
};

// Packs k in [k_begin, k_end) of the lines [first, first + kWidth): zeros behind the last line, and
// behind an odd number of bf16.
template <bool kPairs, int kWidth>
void PackAlongK(const PanelSource& source, int64_t first, int64_t k_begin, int64_t k_end,
                float* to) {
  constexpr int64_t kBytes = kPairs ? 2 : 4, kHalves = kBytes / 2;
  const int64_t halves = (k_end - k_begin) * kHalves, words = (halves + 1) / 2;
  const char* from = source.data + (first * source.ld + k_begin) * kBytes;
  for (int64_t w = 0; w < words; w += kVector) {
    const int64_t left = halves - 2 * w;
    const __mmask32 some = left >= 32 ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
    const int64_t count = words - w < kVector ? words - w : kVector;
#pragma GCC unroll 2
    for (int part = 0; part < kWidth; part += kVector) {
      const int64_t present = source.lines - first - part;
      Words x[kVector];
#pragma GCC unroll 16
      for (int i = 0; i < kVector; ++i) {
        const bool exists = i < present && part + i < kWidth;
        const char* line = from + (exists ? (part + i) * source.ld * kBytes : 0);
        x[i] = reinterpret_cast<Words>(_mm512_maskz_loadu_epi16(exists ? some : 0, line + 4 * w));
      }
      Transpose(x);
      const __mmask16 width = FirstLanes(kWidth - part);
      if (count == kVector) {
#pragma GCC unroll 16
        for (int i = 0; i < kVector; ++i) {
          _mm512_mask_storeu_epi32(to + (w + i) * kWidth + part, width,
                                   reinterpret_cast<__m512i>(x[i]));
        }
      } else {
        for (int i = 0; i < count; ++i) {
          _mm512_mask_storeu_epi32(to + (w + i) * kWidth + part, width,
                                   reinterpret_cast<__m512i>(x[i]));
        }
      }
    }
  }
}

template <bool kPairs, int kWidth>
void PackAcrossK(const PanelSource& source, int64_t first, int64_t k_begin, int64_t k_end,
                 float* to) {
  constexpr int64_t kBytes = kPairs ? 2 : 4;
  for (int part = 0; part < kWidth; part += kVector) {
    const __mmask16 width = FirstLanes(kWidth - part);
    const __mmask16 present = FirstLanes(source.lines - first - part) & width;
    const char* from = source.data + (k_begin * source.ld + first + part) * kBytes;
    float* word = to + part;
    for (int64_t k = k_begin; k < k_end; k += kPairs ? 2 : 1) {
      __m512i x;
      if constexpr (kPairs) {
        const __m256i low = _mm256_maskz_loadu_epi16(present, from);
        const __m256i high =
            _mm256_maskz_loadu_epi16(k + 1 < k_end ? present : 0, from + source.ld * kBytes);
        x = reinterpret_cast<__m512i>(Widen(low) | Widen(high) << 16);
        from += 2 * source.ld * kBytes;
      } else {
        x = _mm512_maskz_loadu_epi32(present, from);
        from += source.ld * kBytes;
      }
      _mm512_mask_storeu_epi32(word, width, x);
      word += kWidth;
    }
  }
}

template <bool kPairs, int kWidth>
void PackPanel(const PanelSource& source, int64_t first, int64_t k_begin, int64_t k_end,
               float* to) {
  const auto pack = source.k_contiguous ? PackAlongK<kPairs, kWidth> : PackAcrossK<kPairs, kWidth>;
  pack(source, first, k_begin, k_end, to);
}

}  // namespace trireme

TRIREME_AVX512_END
