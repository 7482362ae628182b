// Linear attention, backward. A task is the chain of one run and head, from its last chunk to its
// first; in a chunk the states of its blocks are computed again, then the blocks are walked from
// the last to the first with dS, the gradient of the state that leaves. In the words of
// recurrence_block.h, with N the scores of r below the diagonal:
//   dy = P^T dout + (z e^{G_16 - G}) dS of each writer (z, y), plus N^T x for (k, v)
//   x  = dy + N^T x, solved for what stands before the pseudo-values; it is dv of kDelta
//   dq = e^G (dout S^T) + what its scores give, from dP = dout y^T on and below the diagonal
//   dr = e^G (x S^T) + what its scores give, from dN = x y^T below the diagonal
//   dz = e^{G_16 - G} (y dS^T) + what its scores give
//   dG = q dq + r dr - the sum of z dz; dG_16 also gets e^{G_16} rowsum(S dS) and the sum over
//        tokens of z times the first term of dz; dg is the sum of dG from its token on
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

  BackwardChain(const RecurrenceBackwardArgs& args, const BlockShape& shape)
      : args_(args),
        s_(shape),
        heads_(args.tokens.v.sizes[1]),
        block_(args.tokens, shape, /*reads_v=*/true) {}

  void TakeScratch(ScratchLayout* layout) {
    const int64_t kp = s_.kp, vp = s_.vp, keys = kN * kp, values = kN * vp, state = kp * vp;
    block_.TakeScratch(layout);
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
    // One row in front: a reader before the first token.
    dlog_ = take(keys + kp) + kp;
    dwhole_ = take(kp);
    p_ = take((kN + 1) * kN);
    dp_ = take((kN + 1) * kN);
  }

  void Run(const ChunkedRun& run, int64_t number, int64_t head) {
    SetDstate(number, head);
    for (int64_t chunk = run.num_chunks() - 1; chunk >= 0; --chunk) {
      const int64_t begin = run.begin + chunk * kChunkTokens;
      const int64_t end = std::min(begin + kChunkTokens, run.end);
      const int64_t blocks = (end - begin + kN - 1) / kN;
      LoadStates(run.first_chunk + chunk, begin, blocks, head);
      for (int64_t b = blocks - 1; b >= 0; --b) {
        const int64_t first = begin + b * kN;
        RunBlock(first, std::min(kN, end - first), head, state_columns_[b]);
      }
    }
    StoreDinitial(number, head);
  }

 private:
  int64_t StateOffset(int64_t number, int64_t head) const {
    return (number * heads_ + head) * s_.key * s_.value;
  }
  void SetDstate(int64_t number, int64_t head) {
    std::fill(dstate_, dstate_ + s_.kp * s_.vp, A(0));
    if (!args_.dfinal.defined()) return;
    const A* from = args_.dfinal.as<A>() + StateOffset(number, head);
    for (int64_t i = 0; i < s_.key; ++i) {
      std::copy(from + i * s_.value, from + (i + 1) * s_.value, dstate_ + i * s_.vp);
    }
  }
  void StoreDinitial(int64_t number, int64_t head) {
    if (!args_.dinitial.defined()) return;
    A* to = args_.dinitial.as<A>() + StateOffset(number, head);
    for (int64_t i = 0; i < s_.key; ++i) {
      std::copy(dstate_ + i * s_.vp, dstate_ + i * s_.vp + s_.value, to + i * s_.value);
    }
  }

  // The states that enter the blocks of a chunk, transposed: [vp, kp].
  void LoadStates(int64_t chunk, int64_t begin, int64_t blocks, int64_t head) {
    const int64_t kp = s_.kp, vp = s_.vp;
    // dstate_columns_ is free here.
    std::fill(dstate_columns_, dstate_columns_ + kp * vp, A(0));
    const A* from = args_.states.as<A>() + StateOffset(chunk, head);
    for (int64_t i = 0; i < s_.key; ++i) {
      std::copy(from + i * s_.value, from + (i + 1) * s_.value, dstate_columns_ + i * vp);
    }
    Transpose(kp, vp, dstate_columns_, vp, state_columns_[0], kp);
    for (int64_t b = 0; b + 1 < blocks; ++b) {
      LoadBlock(begin + b * kN, kN, head, {.q = false, .r = false});
      A* next = state_columns_[b + 1];
      for (int w = 0; w < block_.num_writers(); ++w) {
        const auto& writer = block_.writer(w);
        Multiply<A>(
            vp, kp, kN, {writer.y, vp, true}, writer.x_to_end, kp, next, kp,
            {true, nullptr, w == 0 ? block_.whole : nullptr, w == 0 ? state_columns_[b] : nullptr});
      }
    }
  }

  void LoadBlock(int64_t first, int64_t present, int64_t head,
                 typename RecurrenceBlock<A>::Readers readers) {
    block_.Load(first, present, head, readers);
    if (block_.solves()) block_.LoadPseudoValues(args_.pseudo_values, first, present, head);
  }

  void RunBlock(int64_t first, int64_t present, int64_t head, const A* state_columns) {
    const int64_t kp = s_.kp, vp = s_.vp, keys = kN * kp;
    LoadBlock(first, present, head, {.q = true, .r = true});
    LoadRows<A>(args_.dout, first, present, head, heads_, 1, vp, dout_);
    Transpose(kp, vp, dstate_, vp, dstate_columns_, kp);
    const bool decays = args_.dlog_decay.defined();
    if (decays) SumOfStates(state_columns);

    // Values, then what the solve makes of those of the pseudo-values.
    for (int w = 0; w < block_.num_writers(); ++w) {
      A* dy = &block_.writer(w) == &block_.corrections() && block_.solves() ? x_ : dv_;
      block_.Scores(block_.q, block_.writer(w), p_);
      Multiply<A>(kN, vp, kN, {p_, kN, true}, dout_, vp, dy, vp);
      Multiply<A>(kN, vp, s_.key, {block_.writer(w).x_to_end, kp}, dstate_, vp, dy, vp, {true});
    }
    if (block_.solves()) {
      block_.CorrectionScores(block_.corrections(), p_);
      SolveLowerTransposed(p_, x_, vp);
      for (int w = 0; w + 1 < block_.num_writers(); ++w) {
        block_.CorrectionScores(block_.writer(w), p_);
        Multiply<A>(kN, vp, kN, {p_, kN, true}, x_, vp, dv_, vp, {true});
      }
    }

    // Readers: what they read of the state.
    ReadState(dout_, state_columns, block_.from_start, dq_);
    if (block_.solves()) {
      ReadState(x_, state_columns, block_.r_decays(), dr_);
      std::fill(dr_ + keys, dr_ + keys + kp, A(0));
    }
    // Writers, then the scores between both.
    for (int w = 0; w < block_.num_writers(); ++w) {
      const auto& writer = block_.writer(w);
      A* dx = writer.x == block_.k ? dk_ : db_;
      ReadState(writer.y, dstate_columns_, block_.to_end, dx);
      if (decays) AddProducts(writer.x, dx, dwhole_);
      Transpose(kN, vp, writer.y, vp, y_columns_, kN);
      ScoreGradients(dout_, /*diagonal=*/true);
      block_.ScoresBackward(dp_, block_.q, writer, dq_, dx);
      if (!block_.solves()) continue;
      ScoreGradients(x_, /*diagonal=*/false);
      block_.CorrectionScoresBackward(dp_, writer, dr_, dx);
    }
    if (decays) StoreDlogDecay(first, present, head);

    Multiply<A>(kp, vp, kN, {block_.q_from_start, kp, true}, dout_, vp, dstate_, vp,
                {true, block_.whole});
    if (block_.solves()) {
      Multiply<A>(kp, vp, kN, {block_.r_from_start, kp, true}, x_, vp, dstate_, vp, {true});
    }
    StoreGradients(first, present, head);
  }

  // to [16, kp] = decays times (values [16, vp] state^T).
  void ReadState(const A* values, const A* state_columns, const A* decays, A* to) {
    Multiply<A>(kN, s_.kp, s_.value, {values, s_.vp}, state_columns, s_.kp, to, s_.kp);
    block_.Decay(to, decays, to);
  }

  // dp = values y^T below the diagonal, and on it where it counts.
  void ScoreGradients(const A* values, bool diagonal) {
    Multiply<A>(kN, kN, s_.value, {values, s_.vp}, y_columns_, kN, dp_, kN);
    for (int64_t i = 0; i < kN; ++i) {
      std::fill(dp_ + i * kN + i + (diagonal ? 1 : 0), dp_ + (i + 1) * kN, A(0));
    }
  }

  // dwhole = e^{G_16} rowsum(S dS)
  void SumOfStates(const A* state_columns) {
    ForVectors<A>(s_.kp, [=, this](int64_t c) {
      VectorOf<A> sum{};
      for (int64_t j = 0; j < s_.value; ++j) {
        sum = MultiplyAdd(At(state_columns + j * s_.kp + c), At(dstate_columns_ + j * s_.kp + c),
                          sum);
      }
      At(dwhole_ + c) = sum * At(block_.whole + c);
    });
  }

  // to [kp] += the sum over tokens of x dx.
  void AddProducts(const A* x, const A* dx, A* to) {
    ForVectors<A>(s_.kp, [=, this](int64_t c) {
      for (int64_t i = 0; i < kN; ++i) {
        At(to + c) = MultiplyAdd(At(x + i * s_.kp + c), At(dx + i * s_.kp + c), At(to + c));
      }
    });
  }

  void StoreDlogDecay(int64_t first, int64_t present, int64_t head) {
    const int64_t kp = s_.kp, keys = kN * kp;
    std::fill(dlog_ - kp, dlog_ + keys, A(0));
    const auto add = [&](const A* x, const A* dx, A sign, A* to) {
      ForVectors<A>(keys, [=](int64_t i) { At(to + i) += sign * At(x + i) * At(dx + i); });
    };
    add(block_.q, dq_, 1, dlog_);
    if (block_.solves()) add(block_.r, dr_, 1, dlog_ - (block_.reads_before() ? kp : 0));
    for (int w = 0; w < block_.num_writers(); ++w) {
      add(block_.writer(w).x, block_.writer(w).x == block_.k ? dk_ : db_, -1, dlog_);
    }
    ForVectors<A>(kp, [=, this](int64_t c) {
      VectorOf<A> sum = At(dwhole_ + c);
      for (int64_t i = kN - 1; i >= 0; --i) At(dlog_ + i * kp + c) = sum += At(dlog_ + i * kp + c);
    });
    if (args_.dlog_decay.rank == 3)
      return StoreRows<A>(dlog_, kp, 1, args_.dlog_decay, first, present, head);
    A* to = args_.dlog_decay.as<A>();
    for (int64_t i = 0; i < present; ++i) {
      const A* row = dlog_ + i * kp;
      to[(first + i) * heads_ + head] = SumRow<A>(s_.key, [=](int64_t c) { return row[c]; });
    }
  }

  void StoreGradients(int64_t first, int64_t present, int64_t head) {
    const int64_t kp = s_.kp;
    const A* dv = dv_;
    if (args_.tokens.rule == StateRule::kDelta) {
      // r = -k and b = beta k.
      dv = x_;
      for (int64_t i = 0; i < kN; ++i) {
        const A *k = block_.k + i * kp, *db = db_ + i * kp;
        dbeta_[i] = SumRow<A>(s_.key, [=](int64_t c) { return k[c] * db[c]; });
        ForVectors<A>(kp, [=, this](int64_t c) {
          At(dk_ + i * kp + c) = block_.beta[i] * At(db + c) - At(dr_ + i * kp + c);
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
  RecurrenceBlock<A> block_;
  A* state_columns_[kChunkBlocks];
  A *dstate_, *dstate_columns_;      // [kp, vp], [vp, kp]
  A *dout_, *dv_, *x_, *y_columns_;  // [16, vp], the last [vp, 16]
  A *dq_, *dr_, *dk_, *db_, *dlog_, *dwhole_;
  A *p_, *dp_;  // [17, 16]
  A dbeta_[kN];
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
