// TokenFlow: how the tokens of one call of a mixer see those before them: along the sequence axis,
// or through the state that the call before has left. A mixer is written once, in these operations.
#pragma once

#include <vector>

#include "core/batch.h"
#include "core/ops/ops.h"
#include "models/attention/kv_cache.h"
#include "parallel/sequence/sequence_axis.h"

namespace trireme {

// What a mixer keeps of the tokens of earlier calls, for a few sequences: states of recurrences,
// the last rows before a convolution, keys and values of softmax attention. Only the last of these
// grow.
class MixerState {
 public:
  int64_t bytes() const;

 private:
  friend class TokenFlow;
  std::vector<Tensor> parts_;  // In the order of the mixer's calls.
  KvCache cache_;
};

class TokenFlow {
 public:
  // What it is given must outlive it. With `state` the sequence axis has one rank (CHECKed).
  TokenFlow(const SequenceAxis& axis, const TokenLayout& layout, bool training,
            MixerState* state = nullptr);

  bool training() const { return training_; }

  const TokenLayout& layout() const { return layout_; }
  int64_t num_tokens() const { return layout_.num_tokens(); }

  // ShortConv over the tokens of each document; x [n, c], weight [c, w], bias [c] or undefined.
  Tensor Convolve(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor()) const;
  // The row of the token before, zeros at the first of a document.
  Tensor Previous(const Tensor& x) const;
  // LinearRecurrence over the tokens of each document.
  Tensor Recur(const RecurrenceInputs& inputs) const;
  // The same with several states, each over those of the rows of `inputs` that it takes; rows are
  // sorted by run, then by memory.
  Tensor Recur(const RecurrenceInputs& inputs, const MemoryRows& rows) const;
  // The runs of rows that one document's tokens are.
  std::vector<TokenRun> Runs() const { return state_ == nullptr ? axis_.Runs(layout_) : runs_; }
  // As SequenceAxis::Attend.
  Tensor Attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window,
                double scale) const;

 private:
  // From the next of the state's parts, and into it.
  Tensor RecurOn(const RecurrenceInputs& inputs, absl::Span<const TokenRun> runs) const;
  // The next of the state's parts; undefined in the first call.
  Tensor& Part() const;

  const SequenceAxis& axis_;
  const TokenLayout& layout_;
  const bool training_;
  MixerState* const state_;
  std::vector<TokenRun> runs_;  // The rows of each segment, when there is a state.
  mutable size_t next_part_ = 0;
};

}  // namespace trireme
