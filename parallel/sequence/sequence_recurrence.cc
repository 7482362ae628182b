#include "parallel/sequence/sequence_recurrence.h"

#include <vector>

#include "core/base/log.h"

namespace trireme {
namespace {

std::vector<TokenRun> RowsOf(const RecurrencePlan& plan) {
  std::vector<TokenRun> rows;
  for (const RecurrencePlan::Run& run : plan.runs) rows.push_back(run.rows);
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

}  // namespace

RecurrenceOutputs WholeRecurrence(const RecurrenceInputs& inputs, const TokenLayout& layout,
                                  const Tensor& initial_state) {
  const RecurrencePlan plan =
      PlanRecurrence(layout, SequenceCut::kContiguous, 0, initial_state.defined());
  const RecurrenceOutputs outputs =
      LinearRecurrence(inputs, RowsOf(plan), EnteringStates(plan, initial_state));
  return {outputs.out, LeavingStates(plan, outputs.final_state)};
}

}  // namespace trireme
