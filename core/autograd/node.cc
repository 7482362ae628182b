#include "core/autograd/node.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"

namespace trireme {
namespace {

thread_local bool grad_enabled = true;
thread_local uint64_t next_sequence = 0;

std::vector<Tensor> RecordNode(const char* op, absl::Span<const Tensor> inputs,
                               std::vector<Tensor> outputs, std::shared_ptr<Node> node) {
  node->op = op;
  node->sequence = next_sequence++;
  node->num_outputs = static_cast<int>(outputs.size());
  node->inputs.reserve(inputs.size());
  for (const Tensor& input : inputs) {
    Edge edge;
    if (input.requires_grad()) {
      edge.node = input.impl()->node;
      edge.output = input.impl()->output;
      if (edge.node == nullptr) edge.leaf = input;
    }
    node->inputs.push_back(std::move(edge));
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].defined() || !IsFloating(outputs[i].dtype())) continue;
    CHECK(!outputs[i].requires_grad())
        << "an op returned its input; Detach() it first [" << op << "]";
    outputs[i].impl()->requires_grad = true;
    outputs[i].impl()->node = node;
    outputs[i].impl()->output = static_cast<int>(i);
  }
  return outputs;
}

}  // namespace

bool GradEnabled() { return grad_enabled; }
GradMode::GradMode(bool enabled) : previous_(std::exchange(grad_enabled, enabled)) {}
GradMode::~GradMode() { grad_enabled = previous_; }

bool NeedsGrad(absl::Span<const Tensor> inputs) {
  return grad_enabled && std::any_of(inputs.begin(), inputs.end(),
                                     [](const Tensor& t) { return t.requires_grad(); });
}

std::vector<Tensor> Record(const char* op, absl::Span<const Tensor> inputs,
                           std::vector<Tensor> outputs, BackwardFn backward, WeightFn weights) {
  if (!NeedsGrad(inputs)) return outputs;
  auto node = std::make_shared<Node>();
  node->backward = std::move(backward);
  node->weights = std::move(weights);
  return RecordNode(op, inputs, std::move(outputs), std::move(node));
}

Tensor Record(const char* op, absl::Span<const Tensor> inputs, Tensor output, BackwardFn backward,
              WeightFn weights) {
  return Record(op, inputs, std::vector<Tensor>{std::move(output)}, std::move(backward),
                std::move(weights))[0];
}

std::vector<Tensor> RecordNested(const char* op, absl::Span<const Tensor> inputs,
                                 std::vector<Tensor> outputs, NestedBackwardFn backward) {
  if (!grad_enabled) return outputs;
  auto node = std::make_shared<Node>();
  node->nested = std::move(backward);
  return RecordNode(op, inputs, std::move(outputs), std::move(node));
}

Node::~Node() {
  // A chain of sole owners would recurse: nodes that die with this one are taken apart in a loop.
  std::vector<std::shared_ptr<Node>> dying;
  const auto collect = [&dying](Node& node) {
    // Closures may hold tensors that own nodes too; these are few (never a chain), so plain
    // destruction serves them.
    for (Edge& edge : node.inputs) {
      if (edge.node != nullptr && edge.node.use_count() == 1) dying.push_back(std::move(edge.node));
      edge.node.reset();
    }
  };
  collect(*this);
  while (!dying.empty()) {
    const std::shared_ptr<Node> node = std::move(dying.back());
    dying.pop_back();
    collect(*node);
  }
}

}  // namespace trireme
