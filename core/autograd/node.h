// The autograd graph: reverse mode, one node per recorded op.
//
// A node holds edges to the makers of its inputs and closures, never input values: what a closure
// captures is the memory that training keeps. Nodes are numbered in creation order; a consumer's
// number is larger than its inputs' makers', so descending order is a reverse topological order and
// backward is a loop over a heap. Building, running and destroying are iterative: graphs can be
// millions deep.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/types/span.h"

#include "core/autograd/gradient_sink.h"
#include "core/tensor/tensor.h"

namespace trireme {

using Grads = std::vector<Tensor>;

// From the gradients of the outputs (undefined means zero) to those of the inputs (undefined where
// not needed). Arguments are read-only: others may hold them.
using BackwardFn = std::function<Grads(absl::Span<const Tensor> grad_outputs)>;

// The weight half of a split backward: accumulates into the sink, usually one GEMM with beta = 1.
using WeightFn = std::function<void(absl::Span<const Tensor> grad_outputs, GradientSink& sink)>;

// What a backward run works on; for the few nodes that run another backward inside (Recompute).
struct BackwardRun {
  GradientSink& sink;
  class DeferredWeights* deferred;  // nullptr: weight closures run at once.
};
using NestedBackwardFn =
    std::function<Grads(absl::Span<const Tensor> grad_outputs, BackwardRun& run)>;

// Makes `outputs` depend on `inputs`. Returns the outputs as they are when recording is off or no
// input requires a gradient; then nothing is kept.
std::vector<Tensor> Record(const char* op, absl::Span<const Tensor> inputs,
                           std::vector<Tensor> outputs, BackwardFn backward,
                           WeightFn weights = nullptr);
Tensor Record(const char* op, absl::Span<const Tensor> inputs, Tensor output, BackwardFn backward,
              WeightFn weights = nullptr);
// Records whenever recording is on, also when no input requires a gradient: the node may reach
// leaves that are not among its inputs.
std::vector<Tensor> RecordNested(const char* op, absl::Span<const Tensor> inputs,
                                 std::vector<Tensor> outputs, NestedBackwardFn backward);

// Recording is on by default; off inside a NoGrad scope, and on again inside an EnableGrad scope.
// The state is the calling thread's.
bool GradEnabled();
class GradMode {
 public:
  explicit GradMode(bool enabled);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool previous_;
};
struct NoGrad : GradMode {
  NoGrad() : GradMode(false) {}
};
struct EnableGrad : GradMode {
  EnableGrad() : GradMode(true) {}
};

// True when recording is on and one of the tensors requires a gradient: ops that save extra state
// for backward ask first.
bool NeedsGrad(absl::Span<const Tensor> inputs);

// Where the gradient of one input goes: an output of a node, or a leaf, or nowhere.
struct Edge {
  std::shared_ptr<Node> node;
  int output = 0;
  Tensor leaf;
};

class Node {
 public:
  Node() = default;
  ~Node();  // Iterative.
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const char* op = "";
  uint64_t sequence = 0;
  std::vector<Edge> inputs;
  int num_outputs = 1;
  // Exactly one of the first two is set. Backward moves them out: what they captured is freed as it
  // goes, and a second backward over the same graph is a programmer error.
  BackwardFn backward;
  NestedBackwardFn nested;
  WeightFn weights;
};

}  // namespace trireme
