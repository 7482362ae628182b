// When the actions of a plan can run: the needs of schedule.h, with the times at which they are
// met. What lowering, verification and simulation share.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "parallel/pipeline/lower.h"

namespace trireme {

inline constexpr double kNever = std::numeric_limits<double>::infinity();

class Dataflow {
 public:
  // Refers to `shape`.
  explicit Dataflow(const PipelineShape& shape)
      : shape_(shape), times_(static_cast<size_t>(shape.num_stages()) * shape.num_micro_batches) {}

  // The earliest start; kNever while something is missing.
  double ReadyAt(const Action& action) const {
    const Times& times = times_[Index(action.stage, action.micro_batch)];
    switch (action.kind) {
      case ActionKind::F:
        return action.stage == 0 ? 0 : times.input;
      case ActionKind::I:
      case ActionKind::B:
        return action.stage == shape_.num_stages() - 1 ? times.forward
                                                       : std::max(times.forward, times.gradient);
      case ActionKind::W:
        return times.input_gradient;
    }
    return kNever;
  }

  // The action is done; a neighbour stage on the same rank has what it made.
  void Ends(const Action& action, double time) {
    Times& times = times_[Index(action.stage, action.micro_batch)];
    if (action.kind == ActionKind::W) return;
    const bool forward = action.kind == ActionKind::F;
    (forward ? times.forward : times.input_gradient) = time;
    const int next = action.stage + (forward ? 1 : -1);
    if (next < 0 || next == shape_.num_stages() ||
        shape_.rank_of_stage[next] != shape_.rank_of_stage[action.stage]) {
      return;
    }
    Times& next_times = times_[Index(next, action.micro_batch)];
    (forward ? next_times.input : next_times.gradient) = time;
  }

  // What is received is there.
  void Arrives(const LoweredAction& recv, double time) {
    Times& times = times_[Index(recv.stage, recv.micro_batch)];
    (recv.kind == LoweredKind::RecvActivation ? times.input : times.gradient) = time;
  }

 private:
  struct Times {
    double input = kNever, forward = kNever, gradient = kNever, input_gradient = kNever;
  };
  size_t Index(int stage, int micro_batch) const {
    return static_cast<size_t>(stage) * shape_.num_micro_batches + micro_batch;
  }

  const PipelineShape& shape_;
  std::vector<Times> times_;
};

}  // namespace trireme
