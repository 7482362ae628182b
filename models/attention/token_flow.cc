// Legend: n tokens, c channels, w taps of a convolution, b sequences.
#include "models/attention/token_flow.h"

#include <algorithm>

#include "core/autograd/node.h"
#include "core/base/log.h"

namespace trireme {
namespace {

Tensor Rows(const Tensor& x, const TokenRun& run) {
  return Slice(x.Detach(), 0, run.begin, run.end - run.begin);
}

// The last rows of history [b, w - 1, c] and what followed.
Tensor LastRows(const Tensor& history, const Tensor& x_nc, absl::Span<const TokenRun> runs) {
  const NoGrad no_grad;
  const Tensor last = Tensor::Empty(history.device(), history.shape(), history.dtype(),
                                    MemoryKind::kActivations, "last rows");
  const int64_t kept = history.dim(1), c = history.dim(2);
  for (size_t i = 0; i < runs.size(); ++i) {
    const Tensor before = Reshape(Slice(history, 0, i, 1), {kept, c});
    const Tensor rows = Concat({before, Rows(x_nc, runs[i])}, 0);
    Slice(last, 0, i, 1).CopyFrom(Reshape(Slice(rows, 0, rows.dim(0) - kept, kept), {1, kept, c}));
  }
  return last;
}

}  // namespace

int64_t MixerState::bytes() const {
  int64_t bytes = cache_.bytes();
  for (const Tensor& part : parts_) bytes += part.numel() * DTypeSize(part.dtype());
  return bytes;
}

TokenFlow::TokenFlow(const SequenceAxis& axis, const TokenLayout& layout, bool training,
                     MixerState* state)
    : axis_(axis), layout_(layout), training_(training), state_(state) {
  if (state_ == nullptr) return;
  CHECK_EQ(axis_.size(), 1) << "steps over a sequence axis";
  int64_t row = 0;
  for (const Segment& segment : layout.segments) {
    runs_.push_back({row, row + segment.length});
    row += segment.length;
  }
}

Tensor& TokenFlow::Part() const {
  if (next_part_ == state_->parts_.size()) state_->parts_.emplace_back();
  return state_->parts_[next_part_++];
}

Tensor TokenFlow::Convolve(const Tensor& x_nc, const Tensor& weight_cw,
                           const Tensor& bias_c) const {
  const int64_t before = weight_cw.dim(1) - 1;
  if (state_ == nullptr) {
    return ShortConv(x_nc, weight_cw, bias_c, axis_.Runs(layout_),
                     axis_.History(x_nc, before, layout_));
  }
  Tensor& history = Part();
  if (!history.defined()) {
    history = Tensor::Zeros(
        x_nc.device(), {static_cast<int64_t>(runs_.size()), before, x_nc.dim(1)}, x_nc.dtype());
  }
  const Tensor y = ShortConv(x_nc, weight_cw, bias_c, runs_, history);
  history = LastRows(history, x_nc, runs_);
  return y;
}

Tensor TokenFlow::Previous(const Tensor& x_nc) const {
  const Tensor weight = Tensor::Zeros(x_nc.device(), {x_nc.dim(1), 2}, x_nc.dtype());
  Slice(weight, 1, 0, 1).Fill(1);
  return Convolve(x_nc, weight);
}

Tensor TokenFlow::Recur(const RecurrenceInputs& inputs) const {
  return state_ == nullptr ? axis_.Recur(inputs, layout_).out : RecurOn(inputs, runs_);
}

Tensor TokenFlow::Recur(const RecurrenceInputs& inputs, const MemoryRows& rows) const {
  if (state_ == nullptr) return axis_.Recur(inputs, layout_, rows).out;
  std::vector<TokenRun> runs;
  int64_t row = 0;
  for (const std::vector<int64_t>& counts : rows.of_runs) {
    for (const int64_t count : counts) {
      runs.push_back({row, row + count});
      row += count;
    }
  }
  return RecurOn(inputs, runs);
}

Tensor TokenFlow::RecurOn(const RecurrenceInputs& inputs, absl::Span<const TokenRun> runs) const {
  Tensor& state = Part();
  const RecurrenceOutputs outputs = LinearRecurrence(inputs, runs, state);
  state = outputs.final_state.Detach();
  return outputs.out;
}

Tensor TokenFlow::Attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window,
                         double scale) const {
  if (state_ == nullptr) return axis_.Attend(q, k, v, layout_, window, scale);
  return state_->cache_.Attend(q, k, v, layout_.segments, window, scale);
}

}  // namespace trireme
