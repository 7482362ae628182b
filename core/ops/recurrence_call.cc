#include "core/ops/recurrence_call.h"

#include "core/device/kernel.h"
#include "core/ops/chunked_runs.h"
#include "core/ops/layout.h"

namespace trireme {
namespace {

View ViewOf(const Tensor& x) { return x.defined() ? x.view() : View(); }

// Rows of K or V must be dense; token and head strides are free.
Tensor WithDenseRows(const Tensor& x) {
  if (!x.defined()) return x;
  return x.dim(-1) == 1 || x.strides()[-1] == 1 ? x.Detach() : x.CopyTo(x.dtype());
}

RecurrenceInputs ForKernels(const RecurrenceInputs& in) {
  const auto detach = [](const Tensor& x) { return x.defined() ? x.Detach() : x; };
  const bool by_channel = in.log_decay.defined() && in.log_decay.rank() == 3;
  return {in.rule,
          WithDenseRows(in.q),
          WithDenseRows(in.k),
          WithDenseRows(in.v),
          by_channel ? WithDenseRows(in.log_decay) : detach(in.log_decay),
          detach(in.beta),
          WithDenseRows(in.a),
          WithDenseRows(in.b),
          in.scale};
}

// The sum over the heads that read one key head: [n, h, K] -> [n, g, K].
Tensor SumOverGroups(const Tensor& dx, const Tensor& like) {
  if (!dx.defined() || dx.shape() == like.shape()) return dx;
  const int64_t n = like.dim(0), g = like.dim(1), width = like.dim(2);
  const Tensor sum = SumTo(dx.WithShape({n, g, dx.dim(1) / g, width}), {n, g, 1, width});
  return sum.WithShape(like.shape()).CopyTo(like.dtype());
}

}  // namespace

RecurrenceCall::RecurrenceCall(const RecurrenceInputs& inputs, absl::Span<const TokenRun> runs)
    : in_(ForKernels(inputs)), runs_(ChunkRuns(runs)) {}

Shape RecurrenceCall::StateShape() const {
  return {num_runs(), in_.v.dim(1), in_.q.dim(2), in_.v.dim(2)};
}

RecurrenceTokens RecurrenceCall::TokensOf(absl::Span<const ChunkedRun> runs) const {
  return {in_.rule,
          ViewOf(in_.q),
          ViewOf(in_.k),
          ViewOf(in_.v),
          ViewOf(in_.log_decay),
          ViewOf(in_.beta),
          ViewOf(in_.a),
          ViewOf(in_.b),
          in_.scale,
          runs.data(),
          static_cast<int64_t>(runs.size())};
}

Tensor RecurrenceCall::Rows(const Shape& shape, DType dtype, const char* label) const {
  int64_t covered = 0;
  for (const ChunkedRun& run : runs_) covered += run.end - run.begin;
  return covered == in_.v.dim(0)
             ? Tensor::Empty(in_.v.device(), shape, dtype, MemoryKind::kActivations, label)
             : Tensor::Zeros(in_.v.device(), shape, dtype, MemoryKind::kActivations, label);
}

RecurrenceChain RecurrenceCall::EmptyChain(MemoryKind kind, bool wants_final_state) const {
  Device& device = in_.v.device();
  const auto empty = [&](const Shape& shape, const char* label) {
    return Tensor::Empty(device, shape, accumulation_type(), kind, label);
  };
  RecurrenceChain chain;
  Shape shape = StateShape();
  if (wants_final_state) {
    chain.final_state = Tensor::Empty(device, shape, accumulation_type(), MemoryKind::kActivations,
                                      "recurrence final state");
  }
  shape[0] = NumChunks(runs_);
  chain.states = empty(shape, "recurrence states");
  if (in_.rule != StateRule::kDiagonal) {
    chain.pseudo_values = empty(in_.v.shape(), "recurrence pseudo-values");
  }
  return chain;
}

RecurrenceOutputs RecurrenceCall::Forward(const Tensor& initial, RecurrenceChain* kept) const {
  Device& device = in_.v.device();
  RecurrenceOutputs outputs;
  outputs.out = Rows(in_.v.shape(), in_.v.dtype(), "recurrence");
  outputs.final_state = Tensor::Empty(device, StateShape(), accumulation_type(),
                                      MemoryKind::kActivations, "recurrence final state");
  RecurrenceChain chain;
  if (kept != nullptr) *kept = chain = EmptyChain(MemoryKind::kActivations, false);
  Launch(
      device, &KernelTable::RecurrenceStates,
      RecurrenceStatesArgs{TokensOf(runs_), ViewOf(initial), outputs.final_state.view(),
                           ViewOf(chain.states), ViewOf(chain.pseudo_values), outputs.out.view()});
  return outputs;
}

RecurrenceChain RecurrenceCall::States(const Tensor& initial, bool wants_final_state) const {
  const RecurrenceChain chain = EmptyChain(MemoryKind::kWorkspace, wants_final_state);
  Launch(in_.v.device(), &KernelTable::RecurrenceStates,
         RecurrenceStatesArgs{TokensOf(runs_),
                              ViewOf(initial),
                              ViewOf(chain.final_state),
                              chain.states.view(),
                              ViewOf(chain.pseudo_values),
                              {}});
  return chain;
}

Tensor RecurrenceCall::Output(const RecurrenceChain& chain) const {
  const Tensor out = Rows(in_.v.shape(), in_.v.dtype(), "recurrence");
  Launch(in_.v.device(), &KernelTable::RecurrenceOutput,
         RecurrenceOutputArgs{TokensOf(runs_), chain.states.view(), ViewOf(chain.pseudo_values),
                              out.view()});
  return out;
}

RecurrenceTransitions RecurrenceCall::Transition(absl::Span<const TokenRun> runs) const {
  const std::vector<ChunkedRun> chunked = ChunkRuns(runs);
  const int64_t p = static_cast<int64_t>(runs.size()), h = in_.v.dim(1), key = in_.q.dim(2);
  const auto empty = [&](const Shape& shape, const char* label) {
    return Tensor::Empty(in_.v.device(), shape, accumulation_type(), MemoryKind::kActivations,
                         label);
  };
  RecurrenceTransitions transitions;
  transitions.queries = empty({in_.v.dim(0), h, key}, "recurrence entry queries");
  if (in_.rule != StateRule::kDiagonal) {
    transitions.matrix = empty({p, h, key, key}, "recurrence transition");
  } else if (in_.log_decay.defined()) {
    transitions.decay_sum =
        empty(in_.log_decay.rank() == 3 ? Shape{p, h, key} : Shape{p, h}, "recurrence decay");
  }
  Launch(in_.v.device(), &KernelTable::RecurrenceTransition,
         RecurrenceTransitionArgs{TokensOf(chunked), ViewOf(transitions.decay_sum),
                                  ViewOf(transitions.matrix), transitions.queries.view()});
  return transitions;
}

Grads RecurrenceCall::Backward(const RecurrenceChain& chain, const Tensor& dout,
                               const Tensor& dfinal, bool wants_dlog_decay,
                               bool wants_dinitial) const {
  Device& device = in_.v.device();
  const DType dtype = in_.v.dtype(), acc = accumulation_type();
  const int64_t n = in_.v.dim(0), h = in_.v.dim(1), g = in_.q.dim(1), key = in_.q.dim(2);
  const DType key_grads = g == h ? dtype : acc;
  const auto keys = [&](bool wanted, const char* label) {
    return wanted ? Rows({n, h, key}, key_grads, label) : Tensor();
  };
  const bool low_rank = in_.rule == StateRule::kLowRank;
  const Tensor dq = keys(true, "recurrence dq"), dk = keys(true, "recurrence dk");
  const Tensor da = keys(low_rank, "recurrence da"), db = keys(low_rank, "recurrence db");
  const Tensor dv = Rows(in_.v.shape(), dtype, "recurrence dv");
  Tensor dlog_decay, dbeta, dinitial;
  if (wants_dlog_decay) {
    const Shape shape = in_.log_decay.rank() == 3 ? in_.log_decay.shape() : Shape{n, h};
    dlog_decay = Rows(shape, acc, "recurrence dlog_decay");
  }
  if (in_.rule == StateRule::kDelta) dbeta = Rows({n, h}, dtype, "recurrence dbeta");
  if (wants_dinitial) {
    dinitial =
        Tensor::Empty(device, StateShape(), acc, MemoryKind::kActivations, "recurrence dinitial");
  }
  const Tensor dout_rows =
      WithDenseRows(dout.defined() ? dout : Tensor::Zeros(device, in_.v.shape(), dtype));
  const Tensor dfinal_data = dfinal.defined() ? dfinal.Contiguous() : dfinal;
  Launch(device, &KernelTable::RecurrenceBackward,
         RecurrenceBackwardArgs{TokensOf(runs_), chain.states.view(), ViewOf(chain.pseudo_values),
                                dout_rows.view(), ViewOf(dfinal_data), dq.view(), dk.view(),
                                dv.view(), ViewOf(dlog_decay), ViewOf(dbeta), ViewOf(da),
                                ViewOf(db), ViewOf(dinitial)});
  if (wants_dlog_decay && in_.log_decay.rank() == 1) dlog_decay = SumTo(dlog_decay, {h});
  return {SumOverGroups(dq, in_.q), SumOverGroups(dk, in_.k), dv,      dlog_decay, dbeta,
          SumOverGroups(da, in_.a), SumOverGroups(db, in_.b), dinitial};
}

}  // namespace trireme
