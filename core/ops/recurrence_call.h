// The kernels of linear attention (recurrence.h) with the memory around them: what LinearRecurrence
// and the recurrence over ranks are made of. Nothing here is in the graph. Legend as in
// recurrence.h.
#pragma once

#include <vector>

#include "absl/types/span.h"

#include "core/autograd/node.h"
#include "core/ops/ops.h"
#include "core/ops/recurrence.h"

namespace trireme {

// What a walk over the chains of states leaves behind for other kernels.
struct RecurrenceChain {
  Tensor final_state;            // [p, h, K, V]
  Tensor states, pseudo_values;  // As RecurrenceStatesArgs has them.
};

// As RecurrenceTransitionArgs has them; `queries` in the rows of the runs only.
struct RecurrenceTransitions {
  Tensor decay_sum, matrix, queries;
};

class RecurrenceCall {
 public:
  // Keeps the inputs, in the strides that kernels take.
  RecurrenceCall(const RecurrenceInputs& inputs, absl::Span<const TokenRun> runs);

  const RecurrenceInputs& inputs() const { return in_; }
  int64_t num_runs() const { return static_cast<int64_t>(runs_.size()); }
  Shape StateShape() const;  // [p, h, K, V]
  DType accumulation_type() const { return AccumulationType(in_.v.dtype()); }

  // initial [p, h, K, V] and dense, or undefined: zeros. `kept`, unless it is nullptr, gets what
  // Backward wants of the chain.
  RecurrenceOutputs Forward(const Tensor& initial, RecurrenceChain* kept) const;
  // The same in two parts, with what is between them.
  RecurrenceChain States(const Tensor& initial, bool wants_final_state) const;
  Tensor Output(const RecurrenceChain& chain) const;
  // Of other runs of the same tokens.
  RecurrenceTransitions Transition(absl::Span<const TokenRun> runs) const;

  // The gradients of q, k, v, log_decay, beta, a, b and, with `wants_dinitial`, the initial state;
  // `chain` is that of the true initial state, dout and dfinal may be undefined: zeros.
  Grads Backward(const RecurrenceChain& chain, const Tensor& dout, const Tensor& dfinal,
                 bool wants_dlog_decay, bool wants_dinitial) const;

 private:
  RecurrenceChain EmptyChain(MemoryKind kind, bool wants_final_state) const;
  RecurrenceTokens TokensOf(absl::Span<const ChunkedRun> runs) const;
  // Of tensors that have a row for each token: zeros where some rows are in no run.
  Tensor Rows(const Shape& shape, DType dtype, const char* label) const;

  const RecurrenceInputs in_;
  const std::vector<ChunkedRun> runs_;
};

}  // namespace trireme
