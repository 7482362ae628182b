// Scores of linear attention whose decays differ by channel: no product of matrices, since every
// pair of tokens has decays of its own.
//
//   P_ij = sum_d reader_id x_jd e^{G_id - G_jd}, j <= i, for 16 tokens
//
// A row x_j is walked down the tokens i, times the decay of each token that it passes: products of
// factors of at most one, which cannot overflow. The 136 pairs are written out, so that what is
// summed stays in registers.
#pragma once

#include <utility>

#include "core/ops/cpu/vectors.h"

namespace trireme {

inline constexpr int kBlockTokens = 16;

// fn(std::integral_constant<int, i>) for i in [kFirst, 16).
template <int kFirst, typename Fn>
[[gnu::always_inline]] inline void ForTokensFrom(Fn fn) {
  [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
    (fn(std::integral_constant<int, kFirst + i>()), ...);
  }
  (std::make_integer_sequence<int, kBlockTokens - kFirst>());
}

// p [16, 16] = the scores, zero above the diagonal. reader, x and alpha = e^g are [16, kp].
template <typename A>
void ChannelScores(const A* reader, const A* x, const A* alpha, int64_t kp, A* p) {
  constexpr int64_t kN = kBlockTokens, kLanes = Simd<A>::kLanes;
  alignas(64) A columns[kN * kN];
  ForTokensFrom<0>([&](auto j) __attribute__((always_inline)) {
    VectorOf<A> sum[kN] = {};
    ForVectors<A>(
        kp, [&](int64_t c) __attribute__((always_inline)) {
          VectorOf<A> decayed = At(x + j * kp + c);
          sum[j] = MultiplyAdd(At(reader + j * kp + c), decayed, sum[j]);
          ForTokensFrom<j + 1>([&](auto i) __attribute__((always_inline)) {
            decayed *= At(alpha + i * kp + c);
            sum[i] = MultiplyAdd(At(reader + i * kp + c), decayed, sum[i]);
          });
        });
    for (int64_t part = 0; part < kN; part += kLanes) {
      VectorOf<A> lanes[kLanes];
#pragma GCC unroll 16
      for (int64_t l = 0; l < kLanes; ++l) lanes[l] = sum[part + l];
      At(columns + j * kN + part) = SumsOfLanes<A>(lanes);
    }
  });
  Transpose<A>(kN, kN, columns, kN, p, kN);
}

// dreader and dx [16, kp] += their gradients from dp, that of the scores.
template <typename A>
void ChannelScoresBackward(const A* dp, const A* reader, const A* x, const A* alpha, int64_t kp,
                           A* dreader, A* dx) {
  constexpr int64_t kN = kBlockTokens;
  ForVectors<A>(
      kp, [&](int64_t c) __attribute__((always_inline)) {
        VectorOf<A> sum[kN];
        ForTokensFrom<0>([&](auto i) { sum[i] = At(dreader + i * kp + c); });
        ForTokensFrom<0>([&](auto j) __attribute__((always_inline)) {
          VectorOf<A> decayed = At(x + j * kp + c);
          sum[j] = MultiplyAdd(Broadcast(dp[j * kN + j]), decayed, sum[j]);
          // sum over i of dp_ij e^{G_i - G_j} reader_i, by Horner's rule from the last token on.
          VectorOf<A> rest{};
          ForTokensFrom<j + 1>([&](auto k) __attribute__((always_inline)) {
            constexpr int i = kN + j - k;
            decayed *= At(alpha + k * kp + c);
            sum[k] = MultiplyAdd(Broadcast(dp[k * kN + j]), decayed, sum[k]);
            rest = MultiplyAdd(Broadcast(dp[i * kN + j]), At(reader + i * kp + c), rest);
            rest *= At(alpha + i * kp + c);
          });
          A* to = dx + j * kp + c;
          At(to) += MultiplyAdd(Broadcast(dp[j * kN + j]), At(reader + j * kp + c), rest);
        });
        ForTokensFrom<0>([&](auto i) { At(dreader + i * kp + c) = sum[i]; });
      });
}

}  // namespace trireme
