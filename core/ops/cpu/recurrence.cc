// Linear attention, forward: chains of states, outputs, and what runs do to a state, all by blocks
// of 16 tokens (recurrence_block.h). Tasks are chains, (run, head), or (chunk, head): threads never
// change bits. An output of a chunk walks its blocks as the chain did, so it has the chain's bits
// too.
#include "core/ops/recurrence.h"

#include <algorithm>

#include "core/device/cpu/cpu_device.h"
#include "core/device/workspace.h"
#include "core/ops/cpu/element.h"
#include "core/ops/cpu/recurrence_block.h"
#include "core/ops/cpu/vector_math.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int64_t kTaskTokens = 256;

// Tasks of a tile, where `tasks` of them have `tokens` in all: short ones go together.
int64_t Grain(int64_t tasks, int64_t tokens) {
  return std::max<int64_t>(1, kTaskTokens * tasks / std::max<int64_t>(1, tokens));
}

int64_t NumTokens(const RecurrenceTokens& tokens) {
  int64_t count = 0;
  for (int64_t r = 0; r < tokens.num_runs; ++r) count += tokens.runs[r].end - tokens.runs[r].begin;
  return count;
}

// Where the results of a chain go; what is not defined is not computed.
struct ChainResults {
  View final_state, states, pseudo_values, out;
};

// The blocks of one run and head.
template <typename A>
class Chain {
 public:
  static constexpr int64_t kN = kBlockTokens;

  Chain(const RecurrenceTokens& tokens, const BlockShape& shape, bool reads_v)
      : tokens_(tokens), s_(shape), heads_(tokens.v.sizes[1]), block_(tokens, shape, reads_v) {}

  void TakeScratch(ScratchLayout* layout) {
    block_.TakeScratch(layout);
    state_ = layout->Take<A>(s_.kp * s_.vp);
    out_ = layout->Take<A>(kN * s_.vp);
  }

  void SetState(const A* state) {  // [K, V]; nullptr: zeros.
    std::fill(state_, state_ + s_.kp * s_.vp, A(0));
    for (int64_t i = 0; i < s_.key && state != nullptr; ++i) {
      std::copy(state + i * s_.value, state + (i + 1) * s_.value, state_ + i * s_.vp);
    }
  }
  void SetIdentity() {
    SetState(nullptr);
    for (int64_t i = 0; i < s_.key; ++i) state_[i * s_.vp + i] = 1;
  }

  void Run(const ChunkedRun& run, int64_t number, int64_t head, const ChainResults& results) {
    for (int64_t t = run.begin; t < run.end; t += kN) {
      const int64_t present = std::min(kN, run.end - t), offset = t - run.begin;
      if (results.states.defined() && offset % kChunkTokens == 0) {
        StoreState(results.states, run.first_chunk + offset / kChunkTokens, head);
      }
      block_.Load(t, present, head, {.q = results.out.defined(), .r = true});
      if (block_.solves()) {
        block_.Solve(state_);
        Store(results.pseudo_values, block_.corrections().y, t, present, head);
      }
      if (results.out.defined()) {
        block_.Output(state_, out_);
        Store(results.out, out_, t, present, head);
      }
      block_.Advance(state_);
    }
    StoreState(results.final_state, number, head);
  }

  // Outputs of the chunk that begins at `begin`, whose state is set.
  void RunChunk(int64_t begin, int64_t end, int64_t head, const View& pseudo_values,
                const View& out) {
    for (int64_t t = begin; t < end; t += kN) {
      const int64_t present = std::min(kN, end - t);
      block_.Load(t, present, head, {.q = true, .r = false});
      if (block_.solves()) block_.LoadPseudoValues(pseudo_values, t, present, head);
      block_.Output(state_, out_);
      Store(out, out_, t, present, head);
      if (t + kN < end) block_.Advance(state_);
    }
  }

  // queries = q e^R and, into `decay_sum`, R of the whole run: kDiagonal.
  void RunDiagonalTransition(const ChunkedRun& run, int64_t head, const View& queries,
                             A* decay_sum) {
    A* before = state_;  // [kp]: R of the tokens before the block.
    std::fill(before, before + s_.kp, A(0));
    for (int64_t t = run.begin; t < run.end; t += kN) {
      const int64_t present = std::min(kN, run.end - t);
      block_.Load(t, present, head, {.q = true, .r = false});
      block_.DecayReaders({.q = true, .r = false});
      for (int64_t i = 0; i < present; ++i) {
        A* row = block_.q_from_start + i * s_.kp;
        SimdLoop(s_.kp, [=](int64_t c) { row[c] *= Exp(before[c]); });
      }
      Store(queries, block_.q_from_start, t, present, head);
      for (int64_t c = 0; c < s_.kp; ++c) before[c] += block_.log_whole[c];
    }
    if (decay_sum == nullptr) return;
    const int64_t count = tokens_.log_decay.rank == 3 ? s_.key : 1;
    std::copy(before, before + count, decay_sum);
  }

 private:
  void Store(const View& x, const A* from, int64_t first, int64_t present, int64_t head) const {
    if (!x.defined()) return;
    StoreRows(from, s_.vp, A(1), x, first, present, head);
  }
  void StoreState(const View& x, int64_t number, int64_t head) const {
    if (!x.defined()) return;
    A* to = x.as<A>() + (number * heads_ + head) * s_.key * s_.value;
    for (int64_t i = 0; i < s_.key; ++i) {
      std::copy(state_ + i * s_.vp, state_ + i * s_.vp + s_.value, to + i * s_.value);
    }
  }

  const RecurrenceTokens& tokens_;
  const BlockShape s_;
  const int64_t heads_;
  RecurrenceBlock<A> block_;
  A *state_ = nullptr, *out_ = nullptr;
};

// fn(chain), with its scratch.
template <typename A, typename Fn>
void WithChain(Device& device, const RecurrenceTokens& tokens, const BlockShape& shape,
               bool reads_v, Fn fn) {
  Chain<A> chain(tokens, shape, reads_v);
  ScratchLayout sizes(nullptr);
  chain.TakeScratch(&sizes);
  const Workspace scratch(device, sizes.bytes_taken(), "recurrence");
  ScratchLayout layout(scratch.as<void>());
  chain.TakeScratch(&layout);
  fn(chain);
}

// fn(chain, run, head) for all of them.
template <typename A, typename Fn>
void ForChains(CpuDevice& device, const RecurrenceTokens& tokens, const BlockShape& shape,
               bool reads_v, Fn fn) {
  const int64_t heads = tokens.v.sizes[1], tasks = tokens.num_runs * heads;
  device.ParallelFor(tasks, Grain(tasks, heads * NumTokens(tokens)), [&](int64_t i, int64_t last) {
    WithChain<A>(device, tokens, shape, reads_v, [&](Chain<A>& chain) {
      for (; i < last; ++i) fn(chain, i / heads, i % heads);
    });
  });
}

// Calls fn(accumulation type) for the type of the tokens.
template <typename Fn>
void DispatchTokens(const RecurrenceTokens& tokens, Fn fn) {
  DispatchFloating(tokens.q.dtype, "linear_recurrence",
                   [&](auto tag) { fn(TypeTag<AccOf<typename decltype(tag)::type>>()); });
}

}  // namespace

void RecurrenceStatesCpu(Device& device, const RecurrenceStatesArgs& args) {
  const RecurrenceTokens& tokens = args.tokens;
  const BlockShape shape(tokens.k.sizes[2], tokens.v.sizes[2]);
  DispatchTokens(tokens, [&](auto tag) {
    using A = typename decltype(tag)::type;
    const int64_t heads = tokens.v.sizes[1], size = shape.key * shape.value;
    ForChains<A>(AsCpu(device), tokens, shape, /*reads_v=*/true,
                 [&](Chain<A>& chain, int64_t run, int64_t head) {
                   chain.SetState(args.initial.defined()
                                      ? args.initial.as<A>() + (run * heads + head) * size
                                      : nullptr);
                   chain.Run(tokens.runs[run], run, head,
                             {args.final_state, args.states, args.pseudo_values, args.out});
                 });
  });
}

void RecurrenceOutputCpu(Device& device, const RecurrenceOutputArgs& args) {
  const RecurrenceTokens& tokens = args.tokens;
  const BlockShape shape(tokens.k.sizes[2], tokens.v.sizes[2]);
  const int64_t heads = tokens.v.sizes[1], size = shape.key * shape.value;
  if (tokens.num_runs == 0) return;
  const ChunkedRun* last_run = tokens.runs + tokens.num_runs - 1;
  const int64_t tasks = (last_run->first_chunk + last_run->num_chunks()) * heads;
  DispatchTokens(tokens, [&](auto tag) {
    using A = typename decltype(tag)::type;
    CpuDevice& cpu = AsCpu(device);
    cpu.ParallelFor(tasks, Grain(tasks, heads * NumTokens(tokens)), [&](int64_t i, int64_t last) {
      WithChain<A>(cpu, tokens, shape, /*reads_v=*/true, [&](Chain<A>& chain) {
        for (; i < last; ++i) {
          const int64_t chunk = i / heads, head = i % heads;
          // The last run that begins at or before the chunk: behind empty ones with its number.
          const ChunkedRun* run = std::upper_bound(tokens.runs, last_run + 1, chunk,
                                                   [](int64_t chunk, const ChunkedRun& run) {
                                                     return chunk < run.first_chunk;
                                                   }) -
                                  1;
          const int64_t begin = run->begin + (chunk - run->first_chunk) * kChunkTokens;
          chain.SetState(args.states.as<A>() + i * size);
          chain.RunChunk(begin, std::min(begin + kChunkTokens, run->end), head, args.pseudo_values,
                         args.out);
        }
      });
    });
  });
}

void RecurrenceTransitionCpu(Device& device, const RecurrenceTransitionArgs& args) {
  const RecurrenceTokens& tokens = args.tokens;
  const int64_t heads = tokens.v.sizes[1], key = tokens.k.sizes[2];
  const BlockShape shape(key, key);
  DispatchTokens(tokens, [&](auto tag) {
    using A = typename decltype(tag)::type;
    ForChains<A>(AsCpu(device), tokens, shape, /*reads_v=*/false,
                 [&](Chain<A>& chain, int64_t run, int64_t head) {
                   if (tokens.rule != StateRule::kDiagonal) {
                     // The recurrence itself, from the identity and with no values.
                     chain.SetIdentity();
                     chain.Run(tokens.runs[run], run, head, {args.matrix, {}, {}, args.queries});
                     return;
                   }
                   const int64_t width = tokens.log_decay.rank == 3 ? key : 1;
                   chain.RunDiagonalTransition(
                       tokens.runs[run], head, args.queries,
                       args.decay_sum.defined()
                           ? args.decay_sum.as<A>() + (run * heads + head) * width
                           : nullptr);
                 });
  });
}

}  // namespace trireme
