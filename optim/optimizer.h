// Optimizers: rules that turn an owned slice, its gradient and its states into the next slice. A
// rule has no state of its own; states belong to the caller, as tensors of the slice's shape.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "core/base/params.h"
#include "core/base/registry.h"
#include "core/tensor/tensor.h"

namespace trireme {

// What one update sees of one parameter. All dense, of one shape; owned, grad and states in the
// accumulation type.
struct UpdateSlice {
  Tensor owned;
  Tensor grad;
  Tensor working;  // Its rows of the working copy; undefined when there is nothing to round into.
  std::vector<Tensor> states;  // As many as state_names().
  double learning_rate = 0;
  double weight_decay = 0;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // The names of the states a slice carries, all starting from zero: {"exp_avg", "exp_avg_sq"}.
  virtual std::vector<std::string> state_names() const = 0;
  virtual double weight_decay() const = 0;

  // One step over all slices; `step` counts from 1. The gradient is grad_scale * grad: the tensors
  // are only read, so that clipping and averaging cost no pass of their own.
  virtual void Update(absl::Span<const UpdateSlice> slices, double grad_scale,
                      int64_t step) const = 0;
};

using OptimizerFactory = std::unique_ptr<Optimizer> (*)(const Params& params);

// The registry, made from optimizers.def.
absl::Span<const Entry<OptimizerFactory>> Optimizers();
StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(absl::string_view name, const ParamMap& params);

}  // namespace trireme
