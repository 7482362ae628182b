// Updating a model: which rule each parameter follows, its states, and the step count.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/module/parameter.h"
#include "core/module/unit_tensors.h"
#include "optim/optimizer.h"

namespace trireme {

// Parameters whose path matches `pattern` ("*" stands for any text) follow `optimizer`.
struct UpdateGroup {
  std::string pattern = "*";
  std::shared_ptr<const Optimizer> optimizer;
  double lr_scale = 1;
  bool decay = true;  // false: no weight decay whatever the parameters say.
};

class ParameterUpdate {
 public:
  // Frozen parameters are left alone. The first group that matches a parameter has it; one that no
  // group matches is INVALID_ARGUMENT, and so is a group that matches none. Allocates the states.
  // The parameters must be materialized and outlive this.
  static StatusOr<ParameterUpdate> Create(const ParameterSet& parameters,
                                          std::vector<UpdateGroup> groups);

  // One step of the owned slices: their `gradients` times grad_scale, at learning rate lr (times
  // each group's scale).
  void Step(const UnitTensors& gradients, double learning_rate, double grad_scale);

  // Steps taken; the bias corrections count from here.
  int64_t step() const { return step_; }
  void set_step(int64_t step) { step_ = step; }

  // The states for a checkpoint: "layers.3.mixer.wq" + "exp_avg". They tile like the owned slices.
  struct State {
    const Parameter* parameter;
    std::string name;
    Tensor value;
  };
  std::vector<State> States() const;

 private:
  struct Slice {
    const Parameter* parameter;
    int index;  // In the ParameterSet.
    int group;
    std::vector<Tensor> states;
  };
  std::vector<UpdateGroup> groups_;
  std::vector<Slice> slices_;
  int64_t step_ = 0;
};

}  // namespace trireme
