// States of a rank's runs and of its slots: what a plan (recurrence_plan.h) says goes from the ones
// to the others.
#pragma once

#include <vector>

#include "core/tensor/tensor.h"
#include "parallel/sequence/recurrence_plan.h"

namespace trireme {

// x[i], of the dimension 0.
Tensor RowOf(const Tensor& x, int64_t i);

class SlotStates {
 public:
  // state: the shape of one, [h, K, V].
  SlotStates(const RecurrencePlan& plan, int rank, const Shape& state);

  const std::vector<int>& own_slots() const { return own_slots_; }

  // [lines, h, K, V] of each own slot.
  std::vector<Tensor> Zeros(Device& device, DType dtype) const;
  // Of `states`, which belong to own slots, that of the run's slot and line.
  Tensor Of(const RecurrencePlan::Run& run, const std::vector<Tensor>& states) const;
  bool Has(const RecurrencePlan::Run& run, const std::vector<Tensor>& states) const;

  // From runs that `which` is true of, to their slots; `of_runs` [p, h, K, V].
  using Which = bool RecurrencePlan::Run::*;
  std::vector<Tensor> FromRuns(const Tensor& of_runs, Which which) const;
  // And to them, added to `of_runs`. False when there is nothing to add.
  bool AddToRuns(const std::vector<Tensor>& states, Which which, const Tensor& of_runs) const;

 private:
  const RecurrencePlan& plan_;
  const Shape state_;
  std::vector<int> own_slots_;
  std::vector<int> index_of_slot_;  // Among own ones.
};

}  // namespace trireme
