// Writes the order of one rank. The micro-batches of a stage run in order, forward and backward, so
// that an action is named by its kind and stage alone.
#pragma once

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "parallel/pipeline/schedule.h"

namespace trireme {

class OrderWriter {
 public:
  // What a pattern does beyond the last micro-batch is left out: a plan without one of its
  // micro-batches is as good as it was.
  explicit OrderWriter(const PipelineShape& shape)
      : num_micro_batches_(shape.num_micro_batches),
        next_forward_(shape.num_stages()),
        next_backward_(shape.num_stages()) {}

  void F(int stage) { Append({ActionKind::F, stage, next_forward_[stage]++}); }
  void B(int stage) { Append({ActionKind::B, stage, next_backward_[stage]++}); }
  // Its W is owed from now on.
  void I(int stage) {
    owed_.push_back({ActionKind::W, stage, next_backward_[stage]});
    Append({ActionKind::I, stage, next_backward_[stage]++});
  }
  // The W owed longest; nothing when none is.
  void W() {
    if (owed_.empty()) return;
    Append(owed_.front());
    owed_.pop_front();
  }
  // The W's still owed come last.
  std::vector<Action> Finish() {
    while (!owed_.empty()) W();
    return std::move(order_);
  }

 private:
  void Append(const Action& action) {
    if (action.micro_batch < num_micro_batches_) order_.push_back(action);
  }

  const int num_micro_batches_;
  std::vector<int> next_forward_, next_backward_;  // By stage.
  std::deque<Action> owed_;
  std::vector<Action> order_;
};

}  // namespace trireme
