#include "parallel/sequence/slot_states.h"

namespace trireme {

Tensor RowOf(const Tensor& x, int64_t i) {
  return x.AsStrided(Shape(x.shape().dims().subspan(1)), Shape(x.strides().dims().subspan(1)),
                     i * x.strides()[0]);
}

SlotStates::SlotStates(const RecurrencePlan& plan, int rank, const Shape& state)
    : plan_(plan), state_(state), index_of_slot_(plan.num_slots(), -1) {
  for (int slot = 0; slot < plan.num_slots(); ++slot) {
    if (plan.owners[slot] != rank) continue;
    index_of_slot_[slot] = static_cast<int>(own_slots_.size());
    own_slots_.push_back(slot);
  }
}

std::vector<Tensor> SlotStates::Zeros(Device& device, DType dtype) const {
  const Shape shape = {plan_.num_lines, state_[0], state_[1], state_[2]};
  std::vector<Tensor> states;
  for (size_t i = 0; i < own_slots_.size(); ++i) {
    states.push_back(
        Tensor::Zeros(device, shape, dtype, MemoryKind::kActivations, "states of slots"));
  }
  return states;
}

Tensor SlotStates::Of(const RecurrencePlan::Run& run, const std::vector<Tensor>& states) const {
  return RowOf(states[index_of_slot_[run.slot]], run.line);
}

bool SlotStates::Has(const RecurrencePlan::Run& run, const std::vector<Tensor>& states) const {
  return states[index_of_slot_[run.slot]].defined();
}

std::vector<Tensor> SlotStates::FromRuns(const Tensor& of_runs, Which which) const {
  std::vector<Tensor> states = Zeros(of_runs.device(), of_runs.dtype());
  for (size_t i = 0; i < plan_.runs.size(); ++i) {
    if (plan_.runs[i].*which) {
      Of(plan_.runs[i], states).CopyFrom(RowOf(of_runs, static_cast<int64_t>(i)));
    }
  }
  return states;
}

bool SlotStates::AddToRuns(const std::vector<Tensor>& states, Which which,
                           const Tensor& of_runs) const {
  bool any = false;
  for (size_t i = 0; i < plan_.runs.size(); ++i) {
    const RecurrencePlan::Run& run = plan_.runs[i];
    if (!(run.*which) || !Has(run, states)) continue;
    RowOf(of_runs, static_cast<int64_t>(i)).Accumulate(Of(run, states));
    any = true;
  }
  return any;
}

}  // namespace trireme
