#include "tests/bench/token_recurrence.h"

#include <algorithm>

#include "core/ops/cpu/vectors.h"

namespace trireme::bench {
namespace {

constexpr int64_t kWidth = TokenRecurrence::kWidth, kSegment = 64, kState = kWidth * kWidth;
constexpr int kLanes = Simd<float>::kLanes, kVectors = kWidth / kLanes;
using Vector = VectorOf<float>;

struct Row {
  Vector x[kVectors];
};

float* AlignedStart(std::vector<float>& x) {
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(x.data()) + 63) / 64 * 64);
}

[[gnu::always_inline]] inline Row LoadRow(const float* p) {
  Row row;
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) row.x[i] = At(p + i * kLanes);
  return row;
}
[[gnu::always_inline]] inline void StoreRow(const Row& row, float* p) {
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) At(p + i * kLanes) = row.x[i];
}
// to += factor * x
[[gnu::always_inline]] inline void Add(float factor, const Row& x, Row* to) {
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) {
    to->x[i] = MultiplyAdd(Broadcast(factor), x.x[i], to->x[i]);
  }
}
[[gnu::always_inline]] inline void Scale(float factor, Row* x) {
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) x->x[i] *= factor;
}
[[gnu::always_inline]] inline float Dot(const Row& a, const Row& b) {
  Vector sum = a.x[0] * b.x[0];
#pragma GCC unroll 16
  for (int i = 1; i < kVectors; ++i) sum = MultiplyAdd(a.x[i], b.x[i], sum);
#pragma GCC unroll 16
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sum[i] += sum[i + half];
  }
  return sum[0];
}

// The next state, into `to` (which may be `from`), and the output. u: what is written beside (k,
// v).
template <StateRule kRule>
[[gnu::always_inline]] inline Row Token(const TokenRecurrence::Rows& rows, int64_t t,
                                        const float* from, float* to, Row* u) {
  const float* k = rows.k + t * kWidth;
  const float decay = rows.decay[t];
  const Row v = LoadRow(rows.v + t * kWidth);
  *u = {};
  if constexpr (kRule == StateRule::kDelta) {
    for (int64_t i = 0; i < kWidth; ++i) Add(-decay * k[i], LoadRow(from + i * kWidth), u);
    Add(1, v, u);
  } else if constexpr (kRule == StateRule::kLowRank) {
    const float* a = rows.a + t * kWidth;
    for (int64_t i = 0; i < kWidth; ++i) Add(a[i], LoadRow(from + i * kWidth), u);
  }
  Row out = {};
  for (int64_t i = 0; i < kWidth; ++i) {
    Row s = LoadRow(from + i * kWidth);
    Scale(decay, &s);
    if constexpr (kRule == StateRule::kDelta) {
      Add(rows.beta[t] * k[i], *u, &s);
    } else {
      Add(k[i], v, &s);
      if constexpr (kRule == StateRule::kLowRank) Add(rows.b[t * kWidth + i], *u, &s);
    }
    StoreRow(s, to + i * kWidth);
    Add(rows.q[t * kWidth + i], s, &out);
  }
  return out;
}

}  // namespace

TokenRecurrence::TokenRecurrence(StateRule rule, int64_t n)
    : rule_(rule),
      n_(n),
      kept_((n + kSegment - 1) / kSegment * kState + 16),
      segment_((kSegment + 1) * kState + 16),
      pseudo_(kSegment * kWidth + 16) {}

template <StateRule kRule, bool kKeep>
void TokenRecurrence::ForwardOf(const Rows& rows) {
  alignas(64) float state[kState] = {};
  for (int64_t t = 0; t < n_; ++t) {
    if (kKeep && t % kSegment == 0) std::copy(state, state + kState, &kept_[t * kWidth]);
    Row u;
    StoreRow(Token<kRule>(rows, t, state, state, &u), rows.out + t * kWidth);
  }
}

template <StateRule kRule>
void TokenRecurrence::BackwardOf(const Rows& rows) {
  alignas(64) float dstate[kState] = {};
  float* states = AlignedStart(segment_);
  float* pseudo = AlignedStart(pseudo_);
  for (int64_t first = (n_ - 1) / kSegment * kSegment; first >= 0; first -= kSegment) {
    const int64_t last = std::min(first + kSegment, n_);
    std::copy(&kept_[first * kWidth], &kept_[first * kWidth] + kState, states);
    for (int64_t t = first; t < last; ++t) {
      Row u;
      Token<kRule>(rows, t, states + (t - first) * kState, states + (t - first + 1) * kState, &u);
      StoreRow(u, pseudo + (t - first) * kWidth);
    }
    for (int64_t t = last - 1; t >= first; --t) {
      const float* before = states + (t - first) * kState;
      const float* after = before + kState;
      const Row v = LoadRow(rows.v + t * kWidth), dout = LoadRow(rows.dout + t * kWidth);
      const Row u = LoadRow(pseudo + (t - first) * kWidth);
      const float decay = rows.decay[t];
      // dS += q dout^T, then the gradients of what was written.
      Row dv = {}, du = {};
      for (int64_t i = 0; i < kWidth; ++i) {
        const int64_t at = t * kWidth + i;
        Row ds = LoadRow(dstate + i * kWidth);
        Add(rows.q[at], dout, &ds);
        StoreRow(ds, dstate + i * kWidth);
        rows.dq[at] = Dot(LoadRow(after + i * kWidth), dout);
        if constexpr (kRule == StateRule::kDelta) {
          Add(rows.k[at], ds, &du);
          rows.dk[at] = rows.beta[t] * Dot(ds, u);
        } else {
          Add(rows.k[at], ds, &dv);
          rows.dk[at] = Dot(ds, v);
          if constexpr (kRule == StateRule::kLowRank) {
            Add(rows.b[at], ds, &du);
            rows.db[at] = Dot(ds, u);
          }
        }
      }
      if constexpr (kRule == StateRule::kDelta) {
        rows.dbeta[t] = Dot(du, u);
        Scale(rows.beta[t], &du);
        dv = du;
      }
      StoreRow(dv, rows.dv + t * kWidth);
      // The state before the token.
      Row product = {};
      for (int64_t i = 0; i < kWidth; ++i) {
        const int64_t at = t * kWidth + i;
        Row ds = LoadRow(dstate + i * kWidth);
        const Row s = LoadRow(before + i * kWidth);
        if constexpr (kRule == StateRule::kDelta) {
          Add(-rows.k[at], du, &ds);
          rows.dk[at] -= decay * Dot(s, du);
        }
        for (int j = 0; j < kVectors; ++j) {
          product.x[j] = MultiplyAdd(ds.x[j], s.x[j], product.x[j]);
        }
        Scale(decay, &ds);
        if constexpr (kRule == StateRule::kLowRank) {
          Add(rows.a[at], du, &ds);
          rows.da[at] = Dot(s, du);
        }
        StoreRow(ds, dstate + i * kWidth);
      }
      Row ones;
      for (Vector& x : ones.x) x = Broadcast(1.0f);
      rows.ddecay[t] = decay * Dot(product, ones);
    }
  }
}

void TokenRecurrence::Forward(const Rows& rows) {
  switch (rule_) {
    case StateRule::kDiagonal:
      return ForwardOf<StateRule::kDiagonal, false>(rows);
    case StateRule::kDelta:
      return ForwardOf<StateRule::kDelta, false>(rows);
    case StateRule::kLowRank:
      return ForwardOf<StateRule::kLowRank, false>(rows);
  }
}

void TokenRecurrence::ForwardAndBackward(const Rows& rows) {
  switch (rule_) {
    case StateRule::kDiagonal:
      ForwardOf<StateRule::kDiagonal, true>(rows);
      return BackwardOf<StateRule::kDiagonal>(rows);
    case StateRule::kDelta:
      ForwardOf<StateRule::kDelta, true>(rows);
      return BackwardOf<StateRule::kDelta>(rows);
    case StateRule::kLowRank:
      ForwardOf<StateRule::kLowRank, true>(rows);
      return BackwardOf<StateRule::kLowRank>(rows);
  }
}

}  // namespace trireme::bench
