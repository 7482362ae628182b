// Linear attention (ops.h): memory and gradients around its kernels. The forward pass is one walk
// over the chains of states, which keeps none of them; backward walks them again and keeps those
// that enter the chunks.
#include "core/ops/recurrence.h"

#include <utility>
#include <vector>

#include "core/autograd/node.h"
#include "core/device/kernel.h"
#include "core/ops/chunked_runs.h"
#include "core/ops/layout.h"
#include "core/ops/ops.h"
#include "core/ops/recurrence_checks.h"

namespace trireme {
namespace {

View ViewOf(const Tensor& x) { return x.defined() ? x.view() : View(); }

// Rows of K or V must be dense; token and head strides are free.
Tensor WithDenseRows(const Tensor& x) {
  if (!x.defined()) return x;
  return x.dim(-1) == 1 || x.strides()[-1] == 1 ? x.Detach() : x.CopyTo(x.dtype());
}

// What a backward pass keeps: the inputs.
struct Saved {
  RecurrenceInputs in;
  Tensor initial;
  std::vector<ChunkedRun> runs;

  RecurrenceTokens tokens() const {
    return {in.rule,
            ViewOf(in.q),
            ViewOf(in.k),
            ViewOf(in.v),
            ViewOf(in.log_decay),
            ViewOf(in.beta),
            ViewOf(in.a),
            ViewOf(in.b),
            in.scale,
            runs.data(),
            static_cast<int64_t>(runs.size())};
  }
  // Of tensors that have a row for each token: zeros where some rows are in no run.
  Tensor Rows(const Shape& shape, DType dtype, const char* label) const {
    int64_t covered = 0;
    for (const ChunkedRun& run : runs) covered += run.end - run.begin;
    return covered == in.v.dim(0)
               ? Tensor::Empty(in.v.device(), shape, dtype, MemoryKind::kActivations, label)
               : Tensor::Zeros(in.v.device(), shape, dtype, MemoryKind::kActivations, label);
  }
};

// The sum over the heads that read one key head: [n, h, K] -> [n, g, K].
Tensor SumOverGroups(const Tensor& dx, const Tensor& like) {
  if (!dx.defined() || dx.shape() == like.shape()) return dx;
  const int64_t n = like.dim(0), g = like.dim(1), width = like.dim(2);
  const Tensor sum = SumTo(dx.WithShape({n, g, dx.dim(1) / g, width}), {n, g, 1, width});
  return sum.WithShape(like.shape()).CopyTo(like.dtype());
}

Grads Backward(const Saved& saved, bool wants_dlog_decay, const Tensor& dout,
               const Tensor& dfinal) {
  const RecurrenceInputs& in = saved.in;
  Device& device = in.v.device();
  const DType dtype = in.v.dtype(), acc = AccumulationType(dtype);
  const int64_t n = in.v.dim(0), h = in.v.dim(1), g = in.q.dim(1), key = in.q.dim(2);
  const int64_t value = in.v.dim(2), p = static_cast<int64_t>(saved.runs.size());
  const bool solves = in.rule != StateRule::kDiagonal;

  const Tensor states = Tensor::Empty(device, {NumChunks(saved.runs), h, key, value}, acc,
                                      MemoryKind::kWorkspace, "recurrence states");
  Tensor pseudo_values;
  if (solves) {
    pseudo_values = Tensor::Empty(device, {n, h, value}, acc, MemoryKind::kWorkspace,
                                  "recurrence pseudo-values");
  }
  Launch(device, &KernelTable::RecurrenceStates,
         RecurrenceStatesArgs{
             saved.tokens(), ViewOf(saved.initial), {}, states.view(), ViewOf(pseudo_values), {}});

  const DType key_grads = g == h ? dtype : acc;
  const auto keys = [&](bool wanted, const char* label) {
    return wanted ? saved.Rows({n, h, key}, key_grads, label) : Tensor();
  };
  const bool low_rank = in.rule == StateRule::kLowRank;
  const Tensor dq = keys(true, "recurrence dq"), dk = keys(true, "recurrence dk");
  const Tensor da = keys(low_rank, "recurrence da"), db = keys(low_rank, "recurrence db");
  const Tensor dv = saved.Rows({n, h, value}, dtype, "recurrence dv");
  Tensor dlog_decay, dbeta, dinitial;
  if (wants_dlog_decay) {
    const Shape shape = in.log_decay.rank() == 3 ? in.log_decay.shape() : Shape{n, h};
    dlog_decay = saved.Rows(shape, acc, "recurrence dlog_decay");
  }
  if (in.rule == StateRule::kDelta) dbeta = saved.Rows({n, h}, dtype, "recurrence dbeta");
  if (saved.initial.defined()) {
    dinitial = Tensor::Empty(device, {p, h, key, value}, acc, MemoryKind::kActivations,
                             "recurrence dinitial");
  }
  const Tensor dout_rows =
      WithDenseRows(dout.defined() ? dout : Tensor::Zeros(device, {n, h, value}, dtype));
  const Tensor dfinal_data = dfinal.defined() ? dfinal.Contiguous() : dfinal;
  Launch(device, &KernelTable::RecurrenceBackward,
         RecurrenceBackwardArgs{saved.tokens(), states.view(), ViewOf(pseudo_values),
                                dout_rows.view(), ViewOf(dfinal_data), dq.view(), dk.view(),
                                dv.view(), ViewOf(dlog_decay), ViewOf(dbeta), ViewOf(da),
                                ViewOf(db), ViewOf(dinitial)});
  if (wants_dlog_decay && in.log_decay.rank() == 1) dlog_decay = SumTo(dlog_decay, {h});
  return {SumOverGroups(dq, in.q), SumOverGroups(dk, in.k), dv,      dlog_decay, dbeta,
          SumOverGroups(da, in.a), SumOverGroups(db, in.b), dinitial};
}

}  // namespace

RecurrenceOutputs LinearRecurrence(const RecurrenceInputs& inputs, absl::Span<const TokenRun> runs,
                                   const Tensor& initial_state) {
  CheckRecurrence(inputs, runs, initial_state);
  const auto detach = [](const Tensor& x) { return x.defined() ? x.Detach() : x; };
  const Saved saved = {
      {inputs.rule, WithDenseRows(inputs.q), WithDenseRows(inputs.k), WithDenseRows(inputs.v),
       inputs.log_decay.defined() && inputs.log_decay.rank() == 3 ? WithDenseRows(inputs.log_decay)
                                                                  : detach(inputs.log_decay),
       detach(inputs.beta), WithDenseRows(inputs.a), WithDenseRows(inputs.b), inputs.scale},
      initial_state.defined() ? initial_state.Contiguous().Detach() : Tensor(),
      ChunkRuns(runs)};
  Device& device = inputs.v.device();
  const Tensor out = saved.Rows(inputs.v.shape(), inputs.v.dtype(), "recurrence");
  const Shape state = {static_cast<int64_t>(runs.size()), inputs.v.dim(1), inputs.q.dim(2),
                       inputs.v.dim(2)};
  const Tensor final_state = Tensor::Empty(device, state, AccumulationType(inputs.v.dtype()),
                                           MemoryKind::kActivations, "recurrence final state");
  Launch(device, &KernelTable::RecurrenceStates,
         RecurrenceStatesArgs{
             saved.tokens(), ViewOf(saved.initial), final_state.view(), {}, {}, out.view()});
  const bool wants_dlog_decay = inputs.log_decay.defined() && inputs.log_decay.requires_grad();
  const std::vector<Tensor> outputs =
      Record("linear_recurrence",
             {inputs.q, inputs.k, inputs.v, inputs.log_decay, inputs.beta, inputs.a, inputs.b,
              initial_state},
             {out, final_state}, [=](absl::Span<const Tensor> grads) -> Grads {
               return Backward(saved, wants_dlog_decay, grads[0], grads[1]);
             });
  return {outputs[0], outputs[1]};
}

}  // namespace trireme
