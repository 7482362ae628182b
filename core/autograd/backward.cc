#include "core/autograd/backward.h"

#include <queue>
#include <unordered_map>

#include "core/base/log.h"

namespace trireme {
namespace {

// Nobody else sees this memory, so that it can be added to in place.
bool IsExclusive(const Tensor& grad) {
  return grad.impl().use_count() == 1 && grad.storage().use_count() == 1 && grad.is_contiguous();
}

// sum += more
void AddTo(Tensor& sum, Tensor more) {
  if (!sum.defined()) {
    sum = std::move(more);
    return;
  }
  if (!IsExclusive(sum)) {
    if (IsExclusive(more)) {
      std::swap(sum, more);
    } else {
      sum = sum.CopyTo(sum.dtype());
    }
  }
  sum.Accumulate(more);
}

class Engine {
 public:
  explicit Engine(BackwardRun& run) : run_(run) {}

  void Seed(const Tensor& output, Tensor grad) {
    if (!output.requires_grad()) return;
    CHECK(grad.shape() == output.shape() && grad.dtype() == output.dtype())
        << "gradient " << DTypeName(grad.dtype()) << grad.shape() << " for an output "
        << DTypeName(output.dtype()) << output.shape();
    Deliver(Edge{output.impl()->node, output.impl()->output, output.is_leaf() ? output : Tensor()},
            std::move(grad));
  }

  void Run() {
    const NoGrad no_grad;
    while (!ready_.empty()) {
      const std::shared_ptr<Node> node = ready_.top();
      ready_.pop();
      std::vector<Tensor> grads;
      {
        const auto pending = pending_.find(node.get());
        grads = std::move(pending->second);
        pending_.erase(pending);
      }
      RunNode(*node, std::move(grads));
    }
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
      if (grads[i].defined()) Deliver(node.inputs[i], std::move(grads[i]));
    }
    if (weights == nullptr) return;
    if (run_.deferred == nullptr) {
      weights(grad_outputs, run_.sink);
    } else {
      run_.deferred->Add([weights = std::move(weights), grad_outputs = std::move(grad_outputs)](
                             GradientSink& sink) { weights(grad_outputs, sink); });
    }
  }

  void Deliver(const Edge& edge, Tensor grad) {
    if (edge.node != nullptr) {
      const auto [it, inserted] = pending_.try_emplace(edge.node.get());
      if (inserted) {
        it->second.resize(edge.node->num_outputs);
        ready_.push(edge.node);
      }
      AddTo(it->second[edge.output], std::move(grad));
    } else if (edge.leaf.defined()) {
      AddToSink(run_.sink, edge.leaf, grad);
    }
  }

  BackwardRun& run_;
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, Later> ready_;
  std::unordered_map<const Node*, std::vector<Tensor>> pending_;
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
  CHECK_EQ(outputs.size(), grads.size());
  std::vector<Tensor> seeds(grads.begin(), grads.end());
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (seeds[i].defined() || !outputs[i].requires_grad()) continue;
    CHECK_EQ(outputs[i].numel(), 1) << "output " << i << " of shape " << outputs[i].shape()
                                    << " needs a gradient to start from";
    seeds[i] = Tensor::Full(outputs[i].device(), outputs[i].shape(), outputs[i].dtype(), 1);
  }
  BackwardRun run{sink, deferred};
  NestedBackward(outputs, seeds, run);
}

void NestedBackward(absl::Span<const Tensor> outputs, absl::Span<const Tensor> grads,
                    BackwardRun& run) {
  CHECK_EQ(outputs.size(), grads.size());
  Engine engine(run);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (grads[i].defined()) engine.Seed(outputs[i], grads[i]);
  }
  engine.Run();
}

void Tensor::Backward() const {
  CHECK_EQ(numel(), 1) << "Backward starts from one element, not from shape " << shape();
  CHECK(requires_grad()) << "Backward from a tensor that depends on no leaf";
  LeafSink sink;
  trireme::Backward({*this}, {Tensor()}, sink);
}

}  // namespace trireme
