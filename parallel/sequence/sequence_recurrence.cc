#include "parallel/sequence/sequence_recurrence.h"

#include <memory>
#include <utility>
#include <vector>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/ops/gemm.h"
#include "core/ops/recurrence_call.h"
#include "core/ops/recurrence_checks.h"
#include "parallel/sequence/slot_states.h"

namespace trireme {
namespace {

std::vector<TokenRun> RowsOf(absl::Span<const RecurrencePlan::Run> runs) {
  std::vector<TokenRun> rows;
  for (const RecurrencePlan::Run& run : runs) rows.push_back(run.rows);
  return rows;
}

// States of lines as those of runs: zeros where nothing enters.
Tensor EnteringStates(const RecurrencePlan& plan, const Tensor& of_lines) {
  if (!of_lines.defined() || plan.runs.empty()) return Tensor();
  const Shape& shape = of_lines.shape();
  CHECK_EQ(shape[0], plan.num_lines) << "lines of an initial state [recurrence]";
  const Tensor zeros =
      Tensor::Zeros(of_lines.device(), {1, shape[1], shape[2], shape[3]}, of_lines.dtype());
  std::vector<Tensor> states;
  for (const RecurrencePlan::Run& run : plan.runs) {
    states.push_back(run.entered ? Slice(of_lines, 0, run.line, 1) : zeros);
  }
  return Concat(states, 0);
}

// The states that leave the lines.
Tensor LeavingStates(const RecurrencePlan& plan, const Tensor& of_runs) {
  std::vector<Tensor> states(plan.num_lines);
  for (size_t i = 0; i < plan.runs.size(); ++i) {
    if (plan.runs[i].leaves) states[plan.runs[i].line] = Slice(of_runs, 0, i, 1);
  }
  return states.empty() ? of_runs : Concat(states, 0);
}

// Rows [begin, end) of x [n, h, w] as a matrix for each head, [h, rows, w].
Tensor HeadsOf(const Tensor& x, const TokenRun& rows) {
  const Shape& strides = x.strides();
  return x.AsStrided({x.dim(1), rows.end - rows.begin, x.dim(2)},
                     {strides[1], strides[0], strides[2]}, rows.begin * strides[0]);
}

// One call on one rank, forward and backward.
class RankRecurrence {
 public:
  RankRecurrence(const RecurrenceInputs& inputs, RecurrencePlan plan, const AffineScan& scan)
      : plan_(std::move(plan)),
        scan_(scan),
        call_(inputs, RowsOf(plan_.runs)),
        slots_(plan_, scan_.axis().rank(), Shape(call_.StateShape().dims().subspan(1))) {
    for (const RecurrencePlan::Run& run : plan_.runs) {
      if (run.entered) entered_.push_back(run);
    }
  }

  RecurrenceOutputs Forward(const Tensor& initial) {
    const RecurrenceChain chain = call_.States(Tensor(), /*wants_final_state=*/true);
    MakeTransitions();
    const auto pending = Start(slots_.FromRuns(chain.final_state, &RecurrencePlan::Run::leaves),
                               initial, ScanDirection::kForward);
    const Tensor out = call_.Output(chain);
    const PendingScan::States found = pending->Join();
    for (const Tensor& state : found.entering) {
      // Kept for backward: not what it came in with.
      entering_.push_back(state.defined() ? state.CopyTo(state.dtype()) : state);
    }
    for (const RecurrencePlan::Run& run : entered_) AddEntered(run, out);
    return {out, found.leaving};
  }

  Grads Backward(const Tensor& dout, const Tensor& dfinal, bool wants_dlog_decay) {
    std::vector<Tensor> gradients = slots_.Zeros(device(), call_.accumulation_type());
    if (dout.defined() && !entered_.empty()) {
      const Tensor rows = dout.dtype() == call_.accumulation_type()
                              ? dout.Contiguous()
                              : dout.CopyTo(call_.accumulation_type());
      for (const RecurrencePlan::Run& run : entered_) {
        RunGemm(TransposeLast(HeadsOf(queries_, run.rows)), HeadsOf(rows, run.rows),
                slots_.Of(run, gradients), 0);
      }
    }
    const auto pending = Start(std::move(gradients), dfinal, ScanDirection::kReverse);
    const RecurrenceChain chain = call_.States(OfRuns(entering_, &RecurrencePlan::Run::entered),
                                               /*wants_final_state=*/false);
    const PendingScan::States found = pending->Join();
    Grads grads = call_.Backward(chain, dout, OfRuns(found.entering, &RecurrencePlan::Run::leaves),
                                 wants_dlog_decay, /*wants_dinitial=*/false);
    grads.back() = found.leaving;
    return grads;
  }

 private:
  Device& device() const { return call_.inputs().v.device(); }

  Tensor Zeros(const Shape& shape) const {
    return Tensor::Zeros(device(), shape, call_.accumulation_type(), MemoryKind::kActivations,
                         "recurrence over ranks");
  }

  // What entered runs do to states, and read of them; and what slots do: nothing, where they have
  // no tokens.
  void MakeTransitions() {
    const RecurrenceInputs& in = call_.inputs();
    const Shape states = call_.StateShape();
    const int64_t lines = plan_.num_lines, h = states[1], key = states[2];
    RecurrenceTransitions of_runs;
    if (!entered_.empty()) of_runs = call_.Transition(RowsOf(entered_));
    queries_ = of_runs.queries;
    if (in.rule != StateRule::kDiagonal) {
      kind_ = TransitionKind::kMatrix;
    } else if (in.log_decay.defined()) {
      kind_ = TransitionKind::kDecay;
    }
    if (kind_ == TransitionKind::kDecay && in.log_decay.rank() == 1 && !plan_.tokens.empty()) {
      MakeKnownDecay();
      return;
    }
    for (const int slot : slots_.own_slots()) {
      Tensor transition;
      if (kind_ == TransitionKind::kDecay) {
        transition = Zeros({lines, h, in.log_decay.rank() == 3 ? key : 1});
      } else if (kind_ == TransitionKind::kMatrix) {
        transition = Zeros({lines, h, key, key});
        transition.AsStrided({lines * h, key}, {key * key, key + 1}, 0).Fill(1);
      }
      for (size_t i = 0; i < entered_.size() && transition.defined(); ++i) {
        const RecurrencePlan::Run& run = entered_[i];
        if (run.slot != slot || !run.leaves) continue;
        const Tensor to = RowOf(transition, run.line);
        to.CopyFrom(RowOf(kind_ == TransitionKind::kMatrix ? of_runs.matrix : of_runs.decay_sum,
                          static_cast<int64_t>(i))
                        .WithShape(to.shape()));
      }
      transitions_.push_back(transition);
    }
  }

  // A constant decay, of slots whose numbers of tokens every rank knows.
  void MakeKnownDecay() {
    std::vector<double> tokens;
    for (const std::vector<int64_t>& of_slot : plan_.tokens) {
      tokens.insert(tokens.end(), of_slot.begin(), of_slot.end());
    }
    const Tensor& log_decay = call_.inputs().log_decay;
    known_decay_ = Mul(Tensor::FromVector(device(), {plan_.num_slots(), plan_.num_lines, 1, 1},
                                          tokens, log_decay.dtype()),
                       log_decay.Contiguous().WithShape({log_decay.dim(0), 1}));
    for (const int slot : slots_.own_slots()) transitions_.push_back(RowOf(known_decay_, slot));
  }

  std::unique_ptr<PendingScan> Start(std::vector<Tensor> states, const Tensor& initial,
                                     ScanDirection direction) const {
    std::vector<AffineMap> maps;
    for (size_t i = 0; i < slots_.own_slots().size(); ++i) {
      maps.push_back({kind_, transitions_[i], states[i], plan_.resets[slots_.own_slots()[i]]});
    }
    return scan_.Start({plan_.owners, plan_.resets, known_decay_}, std::move(maps), initial,
                       direction);
  }

  // out += queries^T S_in in the rows of a run.
  void AddEntered(const RecurrencePlan::Run& run, const Tensor& out) const {
    if (!slots_.Has(run, entering_)) return;
    const Tensor queries = HeadsOf(queries_, run.rows), to = HeadsOf(out, run.rows);
    const Tensor state = slots_.Of(run, entering_);
    if (out.dtype() == queries.dtype()) return RunGemm(queries, state, to, 1);
    const Tensor part = Tensor::Empty(device(), to.shape(), queries.dtype(), MemoryKind::kWorkspace,
                                      "recurrence correction");
    RunGemm(queries, state, part, 0);
    to.Accumulate(part);
  }

  // [p, h, K, V], zeros for the other runs; undefined: all zeros.
  Tensor OfRuns(const std::vector<Tensor>& states, SlotStates::Which which) const {
    const Tensor of_runs = Zeros(call_.StateShape());
    return slots_.AddToRuns(states, which, of_runs) ? of_runs : Tensor();
  }

  const RecurrencePlan plan_;
  const AffineScan& scan_;
  const RecurrenceCall call_;
  const SlotStates slots_;
  std::vector<RecurrencePlan::Run> entered_;
  TransitionKind kind_ = TransitionKind::kIdentity;
  std::vector<Tensor> transitions_;  // Of own slots.
  Tensor known_decay_;
  Tensor queries_;                // [n, h, K], of entered runs.
  std::vector<Tensor> entering_;  // Of own slots.
};

}  // namespace

RecurrenceOutputs WholeRecurrence(const RecurrenceInputs& inputs, const RecurrencePlan& plan,
                                  const Tensor& initial_state) {
  const RecurrenceOutputs outputs =
      LinearRecurrence(inputs, RowsOf(plan.runs), EnteringStates(plan, initial_state));
  return {outputs.out, LeavingStates(plan, outputs.final_state)};
}

RecurrenceOutputs SequenceRecurrence(const RecurrenceInputs& inputs, RecurrencePlan plan,
                                     const AffineScan& scan, const Tensor& initial_state) {
  CheckRecurrence(inputs, RowsOf(plan.runs), Tensor());
  CHECK(!initial_state.defined() || initial_state.dim(0) == plan.num_lines)
      << "lines of an initial state [recurrence]";
  const auto recurrence = std::make_shared<RankRecurrence>(inputs, std::move(plan), scan);
  const RecurrenceOutputs result =
      recurrence->Forward(initial_state.defined() ? initial_state.Contiguous().Detach() : Tensor());
  const bool wants_dlog_decay = inputs.log_decay.defined() && inputs.log_decay.requires_grad();
  const std::vector<Tensor> outputs =
      Record("sequence_recurrence",
             {inputs.q, inputs.k, inputs.v, inputs.log_decay, inputs.beta, inputs.a, inputs.b,
              initial_state},
             {result.out, result.final_state}, [=](absl::Span<const Tensor> grads) -> Grads {
               return recurrence->Backward(grads[0], grads[1], wants_dlog_decay);
             });
  return {outputs[0], outputs[1]};
}

}  // namespace trireme
