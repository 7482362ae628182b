// Linear attention, backward. A task is the chain of one run and head, from its last chunk to its
// first; in a chunk the states of its blocks are computed again, then the blocks are walked from
// the last to the first with dS, the gradient of the state that leaves. In the words of
// recurrence_block.h, with N the scores of r below the diagonal:
//   dy = P^T dout + (z e^{G_16 - G}) dS of each writer (z, y), plus N^T x for (k, v)
//   x  = dy + N^T x, solved for what stands before the pseudo-values; it is dv of kDelta
//   dq = e^G (dout S^T) + what its scores give, from dP = dout y^T on and below the diagonal
//   dr = e^G (x S^T) + what its scores give, from dN = x y^T below the diagonal
//   dz = e^{G_16 - G} (y dS^T) + what its scores give
//   dG = q dq + r dr - the sum of z dz; dg is the sum of dG from its token on, and rowsum(S' dS) of
//        the state S' that leaves: that which enters the next block
//   dS of the entering state = e^{G_16} dS + (q e^G)^T dout + (r e^G)^T x
#include <algorithm>

#include "core/device/cpu/cpu_device.h"
#include "core/device/workspace.h"
#include "core/ops/cpu/element.h"
#include "core/ops/cpu/recurrence_block.h"
#include "core/ops/recurrence.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <typename A>
class BackwardChain {
 public:
  static constexpr int64_t kN = kBlockTokens, kChunkBlocks = kChunkTokens / kN;
  static_assert(kChunkBlocks == 4);
  using Block = RecurrenceBlock<A>;

  BackwardChain(const RecurrenceBackwardArgs& args, const BlockShape& shape)
      : args_(args),
        s_(shape),
        heads_(args.tokens.v.sizes[1]),
        blocks_{Block(args.tokens, shape, true), Block(args.tokens, shape, true),
                Block(args.tokens, shape, true), Block(args.tokens, shape, true)} {}

  void TakeScratch(ScratchLayout* layout) {
    const int64_t kp = s_.kp, vp = s_.vp, keys = kN * kp, values = kN * vp, state = kp * vp;
    for (Block& block : blocks_) block.TakeScratch(layout);
    const auto take = [&](int64_t size) { return layout->Take<A>(size); };
    for (A*& columns : state_columns_) columns = take(state);
    dstate_ = take(state);
    dstate_columns_ = take(state);
    dout_ = take(values);
    dv_ = take(values);
    x_ = take(values);
    y_columns_ = take(values);
    dq_ = take(keys);
    dr_ = take(keys + kp);
    dk_ = take(keys);
    db_ = take(keys);
    dlog_ = take(keys);
    leaving_ = take(kp);
    p_ = take((kN + 1) * kN);
    for (int w = 0; w < 2; ++w) {
      dp_[w] = take((kN + 1) * kN);
      dn_[w] = take((kN + 1) * kN);
    }
  }

  void Run(const ChunkedRun& run, int64_t number, int64_t head) {
    SetDstate(number, head);
    for (int64_t chunk = run.num_chunks() - 1; chunk >= 0; --chunk) {
      const int64_t begin = run.begin + chunk * kChunkTokens;
      const int64_t end = std::min(begin + kChunkTokens, run.end);
      const int64_t blocks = (end - begin + kN - 1) / kN;
      const bool last = end == run.end;
      LoadStates(run.first_chunk + chunk, begin, end, head,
                 /*leaving=*/last && args_.dfinal.defined());
      if (last && args_.dfinal.defined()) TurnDstate(state_columns_[blocks]);
      for (int64_t b = blocks - 1; b >= 0; --b) {
        const int64_t first = begin + b * kN;
        RunBlock(blocks_[b], first, std::min(kN, end - first), head, state_columns_[b]);
      }
    }
    StoreDinitial(number, head);
  }

 private:
  int64_t StateOffset(int64_t number, int64_t head) const {
    return (number * heads_ + head) * s_.key * s_.value;
  }
  void SetDstate(int64_t number, int64_t head) {
    const A* from =
        args_.dfinal.defined() ? args_.dfinal.as<A>() + StateOffset(number, head) : nullptr;
    LoadState(from, dstate_);
    // As it is where nothing enters backward.
    std::fill(dstate_columns_, dstate_columns_ + s_.kp * s_.vp, A(0));
    std::fill(leaving_, leaving_ + s_.kp, A(0));
  }
  // to [kp, vp] = from [K, V]; nullptr: zeros.
  void LoadState(const A* from, A* to) const {
    std::fill(to, to + s_.kp * s_.vp, A(0));
    for (int64_t i = 0; i < s_.key && from != nullptr; ++i) {
      std::copy(from + i * s_.value, from + (i + 1) * s_.value, to + i * s_.vp);
    }
  }
  void StoreDinitial(int64_t number, int64_t head) {
    if (!args_.dinitial.defined()) return;
    A* to = args_.dinitial.as<A>() + StateOffset(number, head);
    for (int64_t i = 0; i < s_.key; ++i) {
      std::copy(dstate_ + i * s_.vp, dstate_ + i * s_.vp + s_.value, to + i * s_.value);
    }
  }

  // Loads the blocks of a chunk and the states that enter them, transposed: [vp, kp]; with
  // `leaving`, that which leaves the last of them too.
  void LoadStates(int64_t chunk, int64_t begin, int64_t end, int64_t head, bool leaving) {
    const int64_t kp = s_.kp, vp = s_.vp, blocks = (end - begin + kN - 1) / kN;
    A* entering = state_columns_[kChunkBlocks];  // Free until it is written last.
    LoadState(args_.states.as<A>() + StateOffset(chunk, head), entering);
    Transpose(kp, vp, entering, vp, state_columns_[0], kp);
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t first = begin + b * kN;
      Block& block = blocks_[b];
      block.Load(first, std::min(kN, end - first), head, kBoth);
      if (!block.by_channel()) block.DecayReaders(kBoth);
      if (block.solves()) {
        block.LoadPseudoValues(args_.pseudo_values, first, std::min(kN, end - first), head);
      }
      if (b + 1 == blocks && !leaving) break;
      Term<A> terms[2];
      for (int w = 0; w < block.num_writers(); ++w) {
        terms[w] = {{block.writer(w).y, vp, true}, block.writer(w).x_to_end, kp, kN};
      }
      SumOfProducts(vp, kp, terms, block.num_writers(), state_columns_[b + 1], kp,
                    {.any = true, .column_factors = block.whole, .from = state_columns_[b]});
    }
  }

  void RunBlock(const Block& block, int64_t first, int64_t present, int64_t head,
                const A* state_columns) {
    const int64_t kp = s_.kp, vp = s_.vp, keys = kN * kp;
    const int num_writers = block.num_writers();
    LoadRows<A>(args_.dout, first, present, head, heads_, 1, vp, dout_);

    // Values: first what the solve makes of those of the pseudo-values.
    const auto values_of = [&](int w, A* dy) {
      block.Scores(block.q, block.writer(w), p_);
      Term<A> terms[3] = {OfScores(p_, dout_),
                          {{block.writer(w).x_to_end, kp}, dstate_, vp, s_.key}};
      const bool solved = block.solves() && w + 1 < num_writers;
      if (solved) {
        block.CorrectionScores(block.writer(w), dn_[0]);
        terms[2] = OfScores(dn_[0], x_);
      }
      SumOfProducts(kN, vp, terms, solved ? 3 : 2, dy, vp);
    };
    if (block.solves()) {
      values_of(num_writers - 1, x_);
      block.CorrectionScores(block.corrections(), p_);
      SolveLowerTransposed(p_, x_, vp);
    }
    if (args_.tokens.rule != StateRule::kDelta) values_of(0, dv_);

    // Scores, then readers and writers: what they have of the states, and of the scores.
    for (int w = 0; w < num_writers; ++w) {
      Transpose(kN, vp, block.writer(w).y, vp, y_columns_, kN);
      ScoreGradients(dout_, /*diagonal=*/true, dp_[w]);
      if (block.solves()) ScoreGradients(x_, /*diagonal=*/false, dn_[w]);
    }
    if (block.solves()) std::fill(dr_ + keys, dr_ + keys + kp, A(0));
    block.by_channel() ? ChannelGradients(block, state_columns)
                       : HeadGradients(block, state_columns);
    if (args_.dlog_decay.defined()) {
      args_.dlog_decay.rank == 3 ? StoreChannelDecays(block, first, present, head)
                                 : StoreHeadDecays(block, first, present, head);
    }

    Term<A> terms[2] = {{{block.q_from_start, kp, true}, dout_, vp, kN},
                        {{block.r_from_start, kp, true}, x_, vp, kN}};
    SumOfProducts(kp, vp, terms, block.solves() ? 2 : 1, dstate_, vp, {true, block.whole});
    TurnDstate(state_columns);
    StoreGradients(block, first, present, head);
  }

  // p^T rows, of scores p [16, 16] that are zero above the diagonal.
  Term<A> OfScores(const A* p, const A* rows) const {
    return {{p, kN, true}, rows, s_.vp, kN, /*lower=*/true};
  }
  A* DxOf(const Block& block, int w) const { return block.writer(w).x == block.k ? dk_ : db_; }

  // dq, dr and dx of the writers where a token's decay is the same in every channel: each of them
  // is one sum of products.
  void HeadGradients(const Block& block, const A* state_columns) {
    const int64_t kp = s_.kp;
    const int num_writers = block.num_writers();
    for (int w = 0; w < num_writers; ++w) {
      block.ScoresBackward(dp_[w], block.writer(w), dq_, nullptr);
      if (block.solves()) block.CorrectionScoresBackward(dn_[w], block.writer(w), dr_, nullptr);
    }
    const auto reader = [&](const A* values, const A* decays, A* const(&dp)[2], A* dx) {
      Term<A> terms[3] = {block.Decayed(values, s_.vp, state_columns, kp, s_.value, decays)};
      for (int w = 0; w < num_writers; ++w) {
        terms[1 + w] = {{dp[w], kN}, block.writer(w).x, kp, kN, /*lower=*/true};
      }
      SumOfProducts(kN, kp, terms, 1 + num_writers, dx, kp);
    };
    reader(dout_, block.from_start, dp_, dq_);
    if (block.solves()) reader(x_, block.r_decays(), dn_, dr_);
    for (int w = 0; w < num_writers; ++w) {
      const Term<A> terms[3] = {
          block.Decayed(block.writer(w).y, s_.vp, dstate_columns_, kp, s_.value, block.to_end),
          {{dp_[w], kN, true}, block.q, kp, kN, /*lower=*/true},
          {{dn_[w], kN, true}, block.r, kp, kN, /*lower=*/true}};
      SumOfProducts(kN, kp, terms, block.solves() ? 3 : 2, DxOf(block, w), kp);
    }
  }
  void ChannelGradients(const Block& block, const A* state_columns) {
    const auto of_state = [&](const A* values, const A* columns, const A* decays, A* to) {
      const Term<A> term = block.Decayed(values, s_.vp, columns, s_.kp, s_.value, decays);
      SumOfProducts(kN, s_.kp, &term, 1, to, s_.kp);
    };
    of_state(dout_, state_columns, block.from_start, dq_);
    if (block.solves()) of_state(x_, state_columns, block.r_decays(), dr_);
    for (int w = 0; w < block.num_writers(); ++w) {
      A* dx = DxOf(block, w);
      of_state(block.writer(w).y, dstate_columns_, block.to_end, dx);
      block.ScoresBackward(dp_[w], block.writer(w), dq_, dx);
      if (block.solves()) block.CorrectionScoresBackward(dn_[w], block.writer(w), dr_, dx);
    }
  }

  // dp = values y^T below the diagonal, and on it where it counts.
  void ScoreGradients(const A* values, bool diagonal, A* dp) {
    Multiply<A>(kN, kN, s_.value, {values, s_.vp}, y_columns_, kN, dp, kN);
    for (int64_t i = 0; i < kN; ++i) {
      std::fill(dp + i * kN + i + (diagonal ? 1 : 0), dp + (i + 1) * kN, A(0));
    }
  }

  // dstate_columns_ = dS^T and, of the state S^T that it is the gradient of, leaving_ = rowsum(S
  // dS).
  void TurnDstate(const A* state_columns) {
    args_.dlog_decay.defined() ? TurnDstateOf<true>(state_columns)
                               : TurnDstateOf<false>(state_columns);
  }
  template <bool kDecays>
  void TurnDstateOf(const A* state_columns) {
    constexpr int64_t kLanes = Simd<A>::kLanes;
    const int64_t kp = s_.kp, vp = s_.vp;
    for (int64_t i = 0; i < kp; i += kLanes) {
      VectorOf<A> sum[2] = {};
      for (int64_t j = 0; j < vp; j += kLanes) {
        VectorOf<A> x[kLanes];
        TransposeTile(dstate_ + i * vp + j, vp, x);
#pragma GCC unroll 16
        for (int64_t r = 0; r < kLanes; ++r) {
          const int64_t at = (j + r) * kp + i;
          At(dstate_columns_ + at) = x[r];
          if (kDecays) sum[r % 2] = MultiplyAdd(At(state_columns + at), x[r], sum[r % 2]);
        }
      }
      At(leaving_ + i) = sum[0] + sum[1];
    }
  }

  // q dq - the sum of z dz of a vector of channels of token i.
  [[gnu::always_inline]] VectorOf<A> OfReadersAndWriters(const Block& block, int64_t at) const {
    VectorOf<A> sum = At(block.q + at) * At(dq_ + at);
    for (int w = 0; w < block.num_writers(); ++w) {
      sum -= At(block.writer(w).x + at) * At(DxOf(block, w) + at);
    }
    return sum;
  }
  void StoreChannelDecays(const Block& block, int64_t first, int64_t present, int64_t head) {
    const int64_t kp = s_.kp, before = block.reads_before() ? kp : 0;
    ForVectors<A>(kp, [=, this, &block](int64_t c) {
      VectorOf<A> sum = At(leaving_ + c);
      for (int64_t i = kN - 1; i >= 0; --i) {
        const int64_t at = i * kp + c;
        sum += OfReadersAndWriters(block, at);
        // Row 16 of r is zero.
        if (block.solves()) sum += At(block.r + at + before) * At(dr_ + at + before);
        At(dlog_ + at) = sum;
      }
    });
    StoreRows<A>(dlog_, kp, 1, args_.dlog_decay, first, present, head);
  }
  // The same over all channels at once.
  void StoreHeadDecays(const Block& block, int64_t first, int64_t present, int64_t head) {
    const int64_t kp = s_.kp;
    alignas(64) A of_tokens[kN], of_r[kN + 1] = {};
    SumRows(of_tokens, [&](int64_t at) { return OfReadersAndWriters(block, at); });
    if (block.solves()) {
      SumRows(of_r, [&](int64_t at) { return At(block.r + at) * At(dr_ + at); });
    }
    A sum = 0;
    for (int64_t c = 0; c < kp; ++c) sum += leaving_[c];
    A* to = args_.dlog_decay.as<A>();
    for (int64_t i = kN - 1; i >= 0; --i) {
      sum += of_tokens[i] + of_r[i + (block.reads_before() ? 1 : 0)];
      if (i < present) to[(first + i) * heads_ + head] = sum;
    }
  }
  // to[i] = the sum over the channels of token i of what fn(offset) gives.
  template <typename Fn>
  [[gnu::always_inline]] void SumRows(A* to, Fn fn) const {
    constexpr int64_t kLanes = Simd<A>::kLanes;
    for (int64_t i = 0; i < kN; i += kLanes) {
      VectorOf<A> sums[kLanes];
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        VectorOf<A> sum{};
        ForVectors<A>(s_.kp, [&](int64_t c) { sum += fn((i + lane) * s_.kp + c); });
        sums[lane] = sum;
      }
      At(to + i) = SumsOfLanes<A>(sums);
    }
  }

  void StoreGradients(const Block& block, int64_t first, int64_t present, int64_t head) {
    const int64_t kp = s_.kp;
    const A* dv = dv_;
    if (args_.tokens.rule == StateRule::kDelta) {
      // r = -k and b = beta k.
      dv = x_;
      SumRows(dbeta_, [&](int64_t at) { return At(block.k + at) * At(db_ + at); });
      for (int64_t i = 0; i < kN; ++i) {
        ForVectors<A>(kp, [=, this, &block](int64_t c) {
          const int64_t at = i * kp + c;
          At(dk_ + at) = block.beta[i] * At(db_ + at) - At(dr_ + at);
        });
      }
      View dbeta = args_.dbeta;  // [n, h, 1]
      dbeta.sizes[2] = 1;
      StoreRows<A>(dbeta_, 1, 1, dbeta, first, present, head);
    } else if (args_.tokens.rule == StateRule::kLowRank) {
      StoreRows<A>(dr_, kp, 1, args_.da, first, present, head);
      StoreRows<A>(db_, kp, 1, args_.db, first, present, head);
    }
    StoreRows<A>(dq_, kp, static_cast<A>(args_.tokens.scale), args_.dq, first, present, head);
    StoreRows<A>(dk_, kp, 1, args_.dk, first, present, head);
    StoreRows<A>(dv, s_.vp, 1, args_.dv, first, present, head);
  }

  const RecurrenceBackwardArgs& args_;
  const BlockShape s_;
  const int64_t heads_;
  static constexpr typename Block::Readers kBoth = {.q = true, .r = true};
  Block blocks_[kChunkBlocks];
  A* state_columns_[kChunkBlocks + 1];
  A *dstate_, *dstate_columns_;      // Of the state that leaves: [kp, vp], [vp, kp].
  A *dout_, *dv_, *x_, *y_columns_;  // [16, vp], the last [vp, 16]
  A *dq_, *dr_, *dk_, *db_, *dlog_;  // [16, kp], dr_ [17, kp]
  // rowsum(S' dS) of what leaves the block [kp].
  A* leaving_;
  A *p_, *dp_[2], *dn_[2];  // [17, 16]; the gradients of the scores of q and of r, by writer.
  alignas(64) A dbeta_[kN];
};

}  // namespace

void RecurrenceBackwardCpu(Device& device, const RecurrenceBackwardArgs& args) {
  const RecurrenceTokens& tokens = args.tokens;
  const BlockShape shape(tokens.k.sizes[2], tokens.v.sizes[2]);
  const int64_t heads = tokens.v.sizes[1];
  DispatchFloating(tokens.q.dtype, "linear_recurrence", [&](auto tag) {
    using A = AccOf<typename decltype(tag)::type>;
    AsCpu(device).ParallelFor(tokens.num_runs * heads, 1, [&](int64_t i, int64_t last) {
      BackwardChain<A> chain(args, shape);
      ScratchLayout sizes(nullptr);
      chain.TakeScratch(&sizes);
      const Workspace scratch(device, sizes.bytes_taken(), "recurrence backward");
      ScratchLayout layout(scratch.as<void>());
      chain.TakeScratch(&layout);
      for (; i < last; ++i) chain.Run(tokens.runs[i / heads], i / heads, i % heads);
    });
  });
}

}  // namespace trireme
