// Linear attention token by token, and short convolutions, in plain ops: their definitions.
#include <vector>

#include "core/base/log.h"
#include "core/ops/ops.h"
#include "core/ops/recurrence_checks.h"

namespace trireme {
namespace {

// Row t of x [n, g, c] for h heads: [h, c].
Tensor HeadsOf(const Tensor& x, int64_t t, int64_t h) {
  const int64_t g = x.dim(1), c = x.dim(2);
  const Tensor row = Reshape(Slice(x, 0, t, 1), {g, 1, c});
  return Reshape(Broadcast(row, {g, h / g, c}), {h, c});
}

Tensor AsColumns(const Tensor& x) { return Reshape(x, {x.dim(0), x.dim(1), 1}); }  // [h, c, 1]
Tensor AsRow(const Tensor& x) { return Reshape(x, {x.dim(0), 1, x.dim(1)}); }      // [h, 1, c]

// e^g of token t, [h, 1 or K, 1].
Tensor Decay(const Tensor& log_decay, int64_t t) {
  const int64_t h = log_decay.dim(log_decay.rank() == 1 ? 0 : 1);
  const int64_t rows = log_decay.rank() == 3 ? log_decay.dim(2) : 1;
  const Tensor token = log_decay.rank() == 1 ? log_decay : Slice(log_decay, 0, t, 1);
  return Reshape(Exp(token), {h, rows, 1});
}

}  // namespace

RecurrenceOutputs LinearRecurrenceReference(const RecurrenceInputs& inputs,
                                            absl::Span<const TokenRun> runs,
                                            const Tensor& initial_state) {
  CheckRecurrence(inputs, runs, initial_state);
  const DType acc = AccumulationType(inputs.v.dtype());
  const int64_t n = inputs.v.dim(0), h = inputs.v.dim(1), width = inputs.v.dim(2);
  const auto widen = [&](const Tensor& x) { return x.defined() ? To(x, acc) : x; };
  const Tensor q = widen(inputs.q), k = widen(inputs.k), v = widen(inputs.v);
  const Tensor beta = widen(inputs.beta), a = widen(inputs.a), b = widen(inputs.b);
  const auto zeros = [&](const Shape& shape) { return Tensor::Zeros(q.device(), shape, acc); };

  // One row more, so that there is something to join.
  std::vector<Tensor> rows(n + 1, zeros({1, h, width}));
  std::vector<Tensor> states = {zeros({0, h, q.dim(2), width})};
  for (size_t r = 0; r < runs.size(); ++r) {
    const Shape shape = {h, q.dim(2), width};
    Tensor state =
        initial_state.defined() ? Reshape(Slice(initial_state, 0, r, 1), shape) : zeros(shape);
    for (int64_t t = runs[r].begin; t < runs[r].end; ++t) {
      const Tensor key = AsColumns(HeadsOf(k, t, h)), value = AsRow(HeadsOf(v, t, h));
      const Tensor before = state;
      if (inputs.log_decay.defined()) state = Mul(Decay(inputs.log_decay, t), state);
      switch (inputs.rule) {
        case StateRule::kDiagonal:
          state = Add(state, MatMul(key, value));
          break;
        case StateRule::kDelta: {
          const Tensor strength = Reshape(Slice(beta, 0, t, 1), {h, 1, 1});
          const Tensor error = Sub(value, MatMul(key, state, /*transpose_a=*/true));
          state = Add(state, MatMul(key, Mul(strength, error)));
          break;
        }
        case StateRule::kLowRank: {
          const Tensor read = MatMul(AsRow(HeadsOf(a, t, h)), before);
          state = Add(state, MatMul(AsColumns(HeadsOf(b, t, h)), read));
          state = Add(state, MatMul(key, value));
          break;
        }
      }
      const Tensor out = MatMul(AsRow(HeadsOf(q, t, h)), state);
      rows[t] = Reshape(Mul(out, inputs.scale), {1, h, width});
    }
    states.push_back(Reshape(state, {1, h, q.dim(2), width}));
  }
  const Tensor out = To(Slice(Concat(rows, 0), 0, 0, n), inputs.v.dtype());
  return {out, Concat(states, 0)};
}

Tensor ShortConvReference(const Tensor& x, const Tensor& weight, const Tensor& bias,
                          absl::Span<const TokenRun> runs, const Tensor& history) {
  CheckShortConv(x, weight, bias, runs, history);
  const int64_t n = x.dim(0), c = x.dim(1), w = weight.dim(1);
  const auto zeros = [&](const Shape& shape) {
    return Tensor::Zeros(x.device(), shape, x.dtype());
  };
  std::vector<Tensor> rows(n + 1, zeros({1, c}));
  for (size_t r = 0; r < runs.size(); ++r) {
    const int64_t length = runs[r].end - runs[r].begin;
    const Tensor before =
        history.defined() ? Reshape(Slice(history, 0, r, 1), {w - 1, c}) : zeros({w - 1, c});
    const Tensor all = Concat({before, Slice(x, 0, runs[r].begin, length)}, 0);
    Tensor y = zeros({length, c});
    if (bias.defined()) y = Add(y, bias);
    for (int64_t i = 0; i < w; ++i) {
      const Tensor tap = Reshape(Slice(weight, 1, i, 1), {c});
      y = Add(y, Mul(Slice(all, 0, i, length), tap));
    }
    for (int64_t t = 0; t < length; ++t) rows[runs[r].begin + t] = Slice(y, 0, t, 1);
  }
  return Slice(Concat(rows, 0), 0, 0, n);
}

}  // namespace trireme
