#include "core/autograd/backward.h"

#include <queue>
#include <unordered_map>

#include "core/base/log.h"

namespace trireme {
namespace {

// A gradient on its way to a node. The first to arrive is held as it is; only a sum that the engine
// made itself is added to in place.
struct Pending {
  Tensor grad;
  bool owned = false;
  void Add(const Tensor& more) {
    if (!grad.defined()) {
      grad = more;
    } else {
      if (!owned) grad = grad.CopyTo(grad.dtype());
      owned = true;
      grad.Accumulate(more);
    }
  }
};

class Engine {
 public:
  Engine(absl::Span<const Tensor> inputs, BackwardRun& run)
      : inputs_(inputs), input_grads_(inputs.size()), run_(run) {}

  void Seed(const Tensor& output, const Tensor& grad) {
    if (!output.requires_grad()) return;
    CHECK(grad.shape() == output.shape())
        << "gradient of shape " << grad.shape() << " for an output of shape " << output.shape();
    Deliver(Edge{output.impl()->node, output.impl()->output,
                 output.is_leaf() ? output : Tensor()},
            grad);
  }

  void Run() {
    const NoGrad no_grad;
    while (!ready_.empty()) {
      const std::shared_ptr<Node> node = ready_.top();
      ready_.pop();
      std::vector<Tensor> grads;
      {
        const auto pending = pending_.find(node.get());
        for (Pending& p : pending->second) grads.push_back(std::move(p.grad));
        pending_.erase(pending);
      }
      RunNode(*node, std::move(grads));
    }
  }

  Grads TakeInputGrads() {
    Grads grads;
    for (Pending& pending : input_grads_) grads.push_back(std::move(pending.grad));
    return grads;
  }

 private:
  struct Later {
    bool operator()(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) const {
      return a->sequence < b->sequence;
    }
  };

  void RunNode(Node& node, std::vector<Tensor> grad_outputs) {
    CHECK(node.backward != nullptr || node.nested != nullptr)
        << "backward ran twice over the same graph [" << node.op << "]";
    // Moved out, so that what they captured is freed when this function returns.
    const BackwardFn backward = std::move(node.backward);
    const NestedBackwardFn nested = std::move(node.nested);
    WeightFn weights = std::move(node.weights);
    node.backward = nullptr;
    node.nested = nullptr;
    node.weights = nullptr;
    Grads grads = nested != nullptr ? nested(grad_outputs, run_) : backward(grad_outputs);
    CHECK_EQ(grads.size(), node.inputs.size()) << "[" << node.op << "]";
    for (size_t i = 0; i < grads.size(); ++i) {
      if (grads[i].defined()) Deliver(node.inputs[i], grads[i]);
    }
    if (weights == nullptr) return;
    if (run_.deferred == nullptr) {
      weights(grad_outputs, run_.sink);
    } else {
      run_.deferred->Add([weights = std::move(weights), grad_outputs = std::move(grad_outputs)](
                             GradientSink& sink) { weights(grad_outputs, sink); });
    }
  }

  void Deliver(const Edge& edge, const Tensor& grad) {
    if (edge.node != nullptr) {
      const auto [it, inserted] = pending_.try_emplace(edge.node.get());
      if (inserted) {
        it->second.resize(edge.node->num_outputs);
        ready_.push(edge.node);
      }
      it->second[edge.output].Add(grad);
      return;
    }
    if (!edge.leaf.defined()) return;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (inputs_[i].impl() == edge.leaf.impl()) return input_grads_[i].Add(grad);
    }
    AddToSink(run_.sink, edge.leaf, grad);
  }

  absl::Span<const Tensor> inputs_;
  std::vector<Pending> input_grads_;
  BackwardRun& run_;
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, Later> ready_;
  std::unordered_map<const Node*, std::vector<Pending>> pending_;
};

// The sink behind Tensor::Backward: TensorImpl::grad of each leaf.
class LeafSink : public GradientSink {
 public:
  Slot Open(const Tensor& leaf) override {
    Tensor& grad = leaf.impl()->grad;
    const bool fresh = !grad.defined();
    if (fresh) {
      grad = Tensor::Empty(leaf.device(), leaf.shape(), AccumulationType(leaf.dtype()),
                           MemoryKind::kGradients, "grad");
    }
    return {grad, fresh};
  }
};

}  // namespace

void AddToSink(GradientSink& sink, const Tensor& leaf, const Tensor& grad, double alpha) {
  CHECK(grad.shape() == leaf.shape())
      << "gradient of shape " << grad.shape() << " for a leaf of shape " << leaf.shape();
  const GradientSink::Slot slot = sink.Open(leaf);
  if (!slot.buffer.defined()) return;
  if (slot.fresh && alpha == 1) {
    slot.buffer.CopyFrom(grad);
  } else {
    if (slot.fresh) slot.buffer.Fill(0);
    slot.buffer.Accumulate(grad, alpha);
  }
}

void DeferredWeights::Run(GradientSink& sink) {
  const NoGrad no_grad;
  for (auto& closure : closures_) {
    closure(sink);
    closure = nullptr;
  }
  closures_.clear();
}

void Backward(absl::Span<const Tensor> outputs, absl::Span<const Tensor> grads, GradientSink& sink,
              DeferredWeights* deferred) {
  BackwardRun run{sink, deferred};
  BackwardTo({}, outputs, grads, run);
}

Grads BackwardTo(absl::Span<const Tensor> inputs, absl::Span<const Tensor> outputs,
                 absl::Span<const Tensor> grads, BackwardRun& run) {
  CHECK_EQ(outputs.size(), grads.size());
  Engine engine(inputs, run);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].requires_grad()) continue;
    if (grads[i].defined()) {
      engine.Seed(outputs[i], grads[i]);
    } else if (outputs[i].numel() == 1) {
      engine.Seed(outputs[i],
                  Tensor::Full(outputs[i].device(), outputs[i].shape(), outputs[i].dtype(), 1));
    }
  }
  engine.Run();
  return engine.TakeInputGrads();
}

void Tensor::Backward() const {
  CHECK_EQ(numel(), 1) << "Backward starts from one element, not from shape " << shape();
  LeafSink sink;
  trireme::Backward({*this}, {Tensor()}, sink);
}

}  // namespace trireme
