// Running the graph backward.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "core/autograd/node.h"

namespace trireme {

// Weight closures kept for later: the W action of a zero-bubble pipeline schedule.
class DeferredWeights {
 public:
  void Add(std::function<void(GradientSink&)> closure) { closures_.push_back(std::move(closure)); }
  // Runs and forgets them in the order in which backward met them.
  void Run(GradientSink& sink);
  bool empty() const { return closures_.empty(); }

 private:
  std::vector<std::function<void(GradientSink&)>> closures_;
};

// Seeds `outputs` with `grads` (undefined: one, for a tensor of one element) and runs down to the
// leaves. With `deferred`, weight closures are kept for a later Run. Consumes the graph.
void Backward(absl::Span<const Tensor> outputs, absl::Span<const Tensor> grads, GradientSink& sink,
              DeferredWeights* deferred = nullptr);

// As Backward, for nodes that run a graph of their own. Here an undefined gradient means zero.
void NestedBackward(absl::Span<const Tensor> outputs, absl::Span<const Tensor> grads,
                    BackwardRun& run);

// Runs fn without saving anything but `inputs`, and again in backward. fn must be a function of its
// inputs and of leaves (parameters): random numbers are counters, so dropout repeats itself.
using RecomputedFn = std::function<std::vector<Tensor>(absl::Span<const Tensor> inputs)>;
std::vector<Tensor> Recompute(absl::Span<const Tensor> inputs, RecomputedFn fn);

}  // namespace trireme
