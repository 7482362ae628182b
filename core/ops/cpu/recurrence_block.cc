#include "core/ops/cpu/recurrence_block.h"

#include <algorithm>
#include <type_traits>

#include "core/ops/cpu/channel_scores.h"
#include "core/ops/cpu/element.h"
#include "core/ops/cpu/vector_math.h"

namespace trireme {
namespace {

constexpr int64_t kN = kBlockTokens;

// to = factor times from over `size` elements, vectors of them at a time where both are alike.
template <typename From, typename To, typename A>
[[gnu::always_inline]] inline void ConvertRow(const From* from, int64_t size, A factor, To* to) {
  int64_t i = 0;
  if constexpr (std::is_same_v<From, To>) {
    typedef A Unaligned __attribute__((vector_size(kVectorBytes), may_alias, aligned(alignof(A))));
    for (; i + Simd<A>::kLanes <= size; i += Simd<A>::kLanes) {
      *reinterpret_cast<Unaligned*>(to + i) =
          factor * *reinterpret_cast<const Unaligned*>(from + i);
    }
  }
#pragma omp simd
  for (int64_t j = i; j < size; ++j) Store(to + j, factor * Load(from + j));
}
// Functions of their own for the rows of a block, which GCC vectorizes.
template <typename From, typename To, typename A>
[[gnu::noinline, gnu::flatten]] void ConvertRows(const From* from, int64_t from_stride,
                                                 int64_t rows, int64_t size, A factor, To* to,
                                                 int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    ConvertRow(from + r * from_stride, size, factor, to + r * to_stride);
  }
}

// fn(T*) with the type of x, which is A or, for f32, bf16.
template <typename A, typename Fn>
void WithElements(const View& x, Fn fn) {
  if constexpr (std::is_same_v<A, float>) {
    if (x.dtype == DType::kBF16) return fn(x.as<bfloat16>());
  }
  fn(x.as<A>());
}

template <typename A>
struct Identity {
  alignas(64) A rows[kN][kN] = {};
  constexpr Identity() {
    for (int64_t i = 0; i < kN; ++i) rows[i][i] = 1;
  }
};
template <typename A>
constexpr Identity<A> kIdentity;

// to = a b over [rows, kp].
template <typename A>
void Times(const A* a, const A* b, int64_t size, A* to) {
  ForVectors<A>(size, [=](int64_t i) { At(to + i) = At(a + i) * At(b + i); });
}

}  // namespace

template <typename A>
void LoadRows(const View& x, int64_t first, int64_t present, int64_t head, int64_t heads, A factor,
              int64_t width, A* to) {
  if (present < kN || x.sizes[2] < width) std::fill(to, to + kN * width, A(0));
  const int64_t stride = x.strides[0];
  const int64_t at = first * stride + head / (heads / x.sizes[1]) * x.strides[1];
  WithElements<A>(x, [=, &x](auto* data) {
    ConvertRows(data + at, stride, present, x.sizes[2], factor, to, width);
  });
}

template <typename A>
void StoreRows(const A* from, int64_t width, A factor, const View& x, int64_t first,
               int64_t present, int64_t head) {
  const int64_t stride = x.sizes[1] * x.sizes[2], at = first * stride + head * x.sizes[2];
  WithElements<A>(x, [=, &x](auto* data) {
    ConvertRows(from, width, present, x.sizes[2], factor, data + at, stride);
  });
}

template <typename A>
RecurrenceBlock<A>::RecurrenceBlock(const RecurrenceTokens& tokens, const BlockShape& shape,
                                    bool reads_v)
    : tokens_(tokens),
      shape_(shape),
      rule_(tokens.rule),
      heads_(tokens.v.sizes[1]),
      reads_v_(reads_v),
      by_channel_(tokens.log_decay.rank == 3) {}

template <typename A>
void RecurrenceBlock<A>::TakeScratch(ScratchLayout* layout) {
  const int64_t kp = shape_.kp, keys = kN * kp;
  const auto take = [&](int64_t size) { return layout->Take<A>(size); };
  k = take(keys);
  q = take(keys);
  q_from_start = take(keys);
  v = take(kN * shape_.vp);
  from_start = take(keys + kp) + kp;
  to_end = take(keys);
  whole = take(kp);
  log_whole = take(kp);
  log_decay_ = take(keys);
  alpha_ = take(keys);
  weights_ = take(kN * kN);
  for (A*& scores : scores_) scores = take((kN + 1) * kN);
  num_writers_ = 0;
  const auto add_writer = [&](A* x, A* y) {
    writers_[num_writers_++] = {x, take(keys), take(keys), y};
  };
  if (rule_ != StateRule::kDelta && reads_v_) add_writer(k, v);
  r = r_from_start = nullptr;
  if (solves()) {
    beta = take(kN);
    r = take(keys + kp);
    r_from_start = take(keys);
    A* b = take(keys);
    A* y = take(kN * shape_.vp);
    add_writer(b, y);
  }
}

template <typename A>
void RecurrenceBlock<A>::LoadPseudoValues(const View& x, int64_t first, int64_t present,
                                          int64_t head) {
  LoadRows<A>(x, first, present, head, heads_, 1, shape_.vp, corrections().y);
}

template <typename A>
void RecurrenceBlock<A>::Load(int64_t first, int64_t present, int64_t head, Readers readers) {
  const int64_t kp = shape_.kp, keys = kN * kp;
  const auto load = [&](const View& x, int64_t width, A factor, A* to) {
    LoadRows(x, first, present, head, heads_, factor, width, to);
  };
  LoadDecays(first, present, head);
  load(tokens_.k, kp, 1, k);
  if (reads_v_) load(tokens_.v, shape_.vp, 1, v);
  if (readers.q) {
    load(tokens_.q, kp, static_cast<A>(tokens_.scale), q);
  }
  if (rule_ == StateRule::kDelta) {
    View strengths = tokens_.beta;  // [n, h, 1]
    strengths.sizes[2] = 1;
    load(strengths, 1, 1, beta);
    A* b = corrections().x;
    for (int64_t i = 0; i < kN; ++i) {
      ForVectors<A>(kp, [&](int64_t c) { At(b + i * kp + c) = beta[i] * At(k + i * kp + c); });
    }
  } else if (rule_ == StateRule::kLowRank) {
    load(tokens_.b, kp, 1, corrections().x);
  }
  if (readers.r && solves()) {
    if (rule_ == StateRule::kDelta) {
      ForVectors<A>(keys, [&](int64_t i) { At(r + i) = -At(k + i); });
    } else {
      load(tokens_.a, kp, 1, r);
    }
    std::fill(r + keys, r + keys + kp, A(0));
  }
  if (by_channel_) DecayReaders(readers);
  const bool scores = readers.q || (readers.r && solves());
  for (int w = 0; w < num_writers_; ++w) {
    Decay(writers_[w].x, to_end, writers_[w].x_to_end);
    if (scores && !by_channel_) {
      Transpose(kN, kp, writers_[w].x, kp, writers_[w].x_columns, kN);
    }
  }
}

template <typename A>
void RecurrenceBlock<A>::DecayReaders(Readers readers) const {
  if (readers.q) Decay(q, from_start, q_from_start);
  if (readers.r && solves()) Decay(r, r_decays(), r_from_start);
}

template <typename A>
void RecurrenceBlock<A>::LoadDecays(int64_t first, int64_t present, int64_t head) {
  const View& g = tokens_.log_decay;
  const int64_t size = by_channel_ ? kN * shape_.kp : kN;
  if (g.rank <= 1) {
    // Rows behind the last token do not decay.
    const bool same_as_others = !g.defined() || present == kN;
    const int64_t of = g.defined() ? head : 0;
    if (same_as_others && loaded_decays_of_ == of) return;
    loaded_decays_of_ = same_as_others ? of : -1;
  }
  if (by_channel_) {
    LoadRows<A>(g, first, present, head, heads_, 1, shape_.kp, log_decay_);
  } else {
    std::fill(log_decay_, log_decay_ + size, A(0));
    for (int64_t i = 0; i < present && g.defined(); ++i) {
      const int64_t row = g.rank == 1 ? 0 : (first + i) * g.strides[0];
      log_decay_[i] = g.as<A>()[row + head * g.strides[g.rank - 1]];
    }
  }
  const A* log_decay = log_decay_;
  A* alpha = alpha_;
  SimdLoop(size, [=](int64_t i) { alpha[i] = Exp(log_decay[i]); });
  by_channel_ ? MultiplyDecays() : SpreadDecays();
}

// The same decay in every channel.
template <typename A>
void RecurrenceBlock<A>::SpreadDecays() {
  A product = 1, sum = 0;
  from_start[-1] = 1;
  for (int64_t i = 0; i < kN; ++i) {
    product *= alpha_[i];
    sum += log_decay_[i];
    from_start[i] = product;
  }
  product = 1;
  for (int64_t i = kN - 1; i >= 0; --i) {
    to_end[i] = product;
    product *= alpha_[i];
  }
  // Not the product: over many blocks its error would grow with their number of tokens.
  std::fill(whole, whole + shape_.kp, Exp(sum));
  std::fill(log_whole, log_whole + shape_.kp, sum);
  ForVectors<A>(kN, [=, this](int64_t c) {
    VectorOf<A> row{};
    for (int64_t i = 0; i < kN; ++i) {
      row = MultiplyAdd(Broadcast(alpha_[i]), row, At(kIdentity<A>.rows[i] + c));
      At(weights_ + i * kN + c) = row;
    }
  });
}

template <typename A>
void RecurrenceBlock<A>::MultiplyDecays() {
  const int64_t kp = shape_.kp;
  ForVectors<A>(kp, [&](int64_t c) {
    VectorOf<A> product = Broadcast(A(1)), sum{};
    At(from_start - kp + c) = product;
    for (int64_t i = 0; i < kN; ++i) {
      product *= At(alpha_ + i * kp + c);
      sum += At(log_decay_ + i * kp + c);
      At(from_start + i * kp + c) = product;
    }
    At(log_whole + c) = sum;
    product = Broadcast(A(1));
    for (int64_t i = kN - 1; i >= 0; --i) {
      At(to_end + i * kp + c) = product;
      product *= At(alpha_ + i * kp + c);
    }
  });
  A *all = whole, *log_all = log_whole;
  SimdLoop(kp, [=](int64_t c) { all[c] = Exp(log_all[c]); });
}

template <typename A>
void RecurrenceBlock<A>::Decay(const A* x, const A* decays, A* to) const {
  const int64_t kp = shape_.kp;
  if (by_channel_) return Times(x, decays, kN * kp, to);
  for (int64_t i = 0; i < kN; ++i) {
    ForVectors<A>(kp, [=](int64_t c) { At(to + i * kp + c) = decays[i] * At(x + i * kp + c); });
  }
}

template <typename A>
void RecurrenceBlock<A>::Scores(const A* reader, const Writer& writer, A* p) const {
  if (by_channel_) return ChannelScores(reader, writer.x, alpha_, shape_.kp, p);
  Multiply<A>(kN, kN, shape_.key, {reader, shape_.kp}, writer.x_columns, kN, p, kN);
  Times(p, weights_, kN * kN, p);
}

template <typename A>
void RecurrenceBlock<A>::ScoresBackward(A* dp, const Writer& writer, A* dq, A* dx) const {
  if (by_channel_) return ChannelScoresBackward(dp, q, writer.x, alpha_, shape_.kp, dq, dx);
  Times(dp, weights_, kN * kN, dp);
}

template <typename A>
void RecurrenceBlock<A>::CorrectionScores(const Writer& writer, A* p) const {
  if (reads_before()) {
    // r of token i reads as token i - 1.
    std::fill(p, p + kN, A(0));
    Scores(r + shape_.kp, writer, p + kN);
  } else {
    Scores(r, writer, p);
  }
}

template <typename A>
void RecurrenceBlock<A>::CorrectionScoresBackward(A* dp, const Writer& writer, A* dr, A* dx) const {
  const int64_t kp = shape_.kp, row = reads_before() ? 1 : 0;
  if (row > 0) std::fill(dp + kN * kN, dp + (kN + 1) * kN, A(0));
  if (by_channel_) {
    return ChannelScoresBackward(dp + row * kN, r + row * kp, writer.x, alpha_, kp, dr + row * kp,
                                 dx);
  }
  Times(dp + row * kN, weights_, kN * kN, dp + row * kN);
}

template <typename A>
void RecurrenceBlock<A>::Solve(const A* state) {
  const int64_t vp = shape_.vp;
  A* y = corrections().y;
  Term<A> terms[2] = {OfState(r, r_from_start, r_decays(), state)};
  if (num_writers_ == 2) {
    CorrectionScores(writers_[0], scores_[0]);
    terms[1] = OfScores(scores_[0], writers_[0].y);
  }
  Keep<A> keep;
  if (rule_ == StateRule::kDelta && reads_v_) keep = {.any = true, .from = v};
  SumOfProducts(kN, vp, terms, num_writers_, y, vp, keep);
  CorrectionScores(corrections(), scores_[0]);
  SolveLower(scores_[0], y, vp);
}

template <typename A>
void RecurrenceBlock<A>::Output(const A* state, A* out) const {
  Term<A> terms[3] = {OfState(q, q_from_start, from_start, state)};
  for (int w = 0; w < num_writers_; ++w) {
    Scores(q, writers_[w], scores_[w]);
    terms[1 + w] = OfScores(scores_[w], writers_[w].y);
  }
  SumOfProducts(kN, shape_.vp, terms, 1 + num_writers_, out, shape_.vp);
}

template <typename A>
void RecurrenceBlock<A>::Advance(A* state) const {
  const int64_t kp = shape_.kp, vp = shape_.vp;
  Term<A> terms[2];
  for (int w = 0; w < num_writers_; ++w) {
    terms[w] = {{writers_[w].x_to_end, kp, true}, writers_[w].y, vp, kN};
  }
  SumOfProducts(kp, vp, terms, num_writers_, state, vp, {true, whole});
}

template <typename A>
void SolveLower(const A* scores, A* y, int64_t width) {
  ForVectors<A>(width, [=](int64_t c) {
    for (int64_t j = 0; j < kN; ++j) {
      const VectorOf<A> known = At(y + j * width + c);
      for (int64_t i = j + 1; i < kN; ++i) {
        A* to = y + i * width + c;
        At(to) = MultiplyAdd(Broadcast(scores[i * kN + j]), known, At(to));
      }
    }
  });
}

template <typename A>
void SolveLowerTransposed(const A* scores, A* x, int64_t width) {
  ForVectors<A>(width, [=](int64_t c) {
    for (int64_t i = kN - 1; i > 0; --i) {
      const VectorOf<A> known = At(x + i * width + c);
      for (int64_t j = 0; j < i; ++j) {
        A* to = x + j * width + c;
        At(to) = MultiplyAdd(Broadcast(scores[i * kN + j]), known, At(to));
      }
    }
  });
}

#define INSTANTIATE(A)                                                                     \
  template void LoadRows(const View&, int64_t, int64_t, int64_t, int64_t, A, int64_t, A*); \
  template void StoreRows(const A*, int64_t, A, const View&, int64_t, int64_t, int64_t);   \
  template class RecurrenceBlock<A>;                                                       \
  template void SolveLowerTransposed(const A*, A*, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace trireme
