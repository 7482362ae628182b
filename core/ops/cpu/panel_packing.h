// Packing operands into the panels that register_tile.h multiplies, with the shuffles of AVX-512.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/ops/cpu/register_tile.h"

TRIREME_AVX512_BEGIN

namespace trireme {

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
