#include "parallel/layers/column_linear.h"

#include <memory>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/ops/gemm.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

// What backward of the op leaves for the change of layout below it, which runs next.
struct InFlight {
  PendingTensor dx;
};

// The stream as every rank needs it: Copied. Its gradient is what the op above has set on its way.
Tensor Enter(const TensorAxis& axis, const Tensor& stream, int64_t n,
             const std::shared_ptr<InFlight>& in_flight) {
  const Tensor whole = axis.sharded_stream
                           ? StartAllGatherRows(stream, n, axis.group, "stream rows").Wait()
                           : stream.Detach();
  return Record("enter_columns", {stream}, whole, [in_flight](absl::Span<const Tensor>) -> Grads {
    return {std::exchange(in_flight->dx, PendingTensor()).Wait()};
  });
}

Tensor Product(const Tensor& x, const Tensor& weight) {
  const Tensor y = Tensor::Empty(x.device(), {x.dim(0), weight.dim(0)}, x.dtype(),
                                 MemoryKind::kActivations, "column_linear");
  RunGemm(x, TransposeLast(weight), y, 0);
  return y;
}

// sum_i dy_i w_i
Tensor InputGradient(absl::Span<const Tensor> dys, absl::Span<const Tensor> weights) {
  Tensor dx;
  for (size_t i = 0; i < dys.size(); ++i) {
    if (!dys[i].defined()) continue;
    const bool first = !dx.defined();
    if (first) {
      dx = Tensor::Empty(dys[i].device(), {dys[i].dim(0), weights[i].dim(1)}, dys[i].dtype(),
                         MemoryKind::kActivations, "column_linear dx");
    }
    RunGemm(dys[i].Contiguous(), weights[i], dx, first ? 0 : 1);
  }
  return dx;
}

// Without adapters.
std::vector<Tensor> Products(const TensorAxis& axis, const Tensor& stream, int64_t n,
                             absl::Span<const Parameter* const> weights) {
  const auto in_flight = std::make_shared<InFlight>();
  const Tensor x = Enter(axis, stream, n, in_flight);
  std::vector<Tensor> inputs = {x}, leaves, outputs;
  for (const Parameter* weight : weights) {
    leaves.push_back(weight->working);
    inputs.push_back(weight->working);
    outputs.push_back(Product(x.Detach(), weight->working.Detach()));
  }
  std::vector<Tensor> values;
  for (const Tensor& leaf : leaves) values.push_back(leaf.Detach());

  // The rows of this rank, or of all where they cost nothing.
  const Tensor kept = stream.Detach();
  const auto gathered = std::make_shared<PendingTensor>();
  const auto backward = [=, num_inputs = inputs.size(),
                         wants_dx = stream.requires_grad()](absl::Span<const Tensor> dys) -> Grads {
    if (axis.sharded_stream)
      *gathered = StartAllGatherRows(kept, n, axis.group, "stream rows again");
    if (!wants_dx) return Grads(num_inputs);  // Nothing below is trained.
    const Tensor dx = InputGradient(dys, values);
    in_flight->dx = axis.sharded_stream ? StartReduceScatterRows(dx, axis.group, "stream gradients")
                                        : StartAllReduce(dx, axis.group, "stream gradients");
    Grads grads(num_inputs);
    grads[0] = dx;
    return grads;
  };
  const auto accumulate = [=](absl::Span<const Tensor> dys, GradientSink& sink) {
    const Tensor rows = axis.sharded_stream ? gathered->Wait() : kept;
    *gathered = PendingTensor();
    for (size_t i = 0; i < dys.size(); ++i) {
      const GradientSink::Slot slot =
          dys[i].defined() ? sink.Open(leaves[i]) : GradientSink::Slot{};
      if (!slot.buffer.defined()) continue;
      RunGemm(TransposeLast(dys[i].Contiguous()), rows, slot.buffer, slot.fresh ? 0 : 1);
    }
  };
  return Record("column_linear", inputs, outputs, backward, accumulate);
}

}  // namespace

std::vector<Tensor> ColumnLinear(const TensorAxis& axis, const Tensor& stream, int64_t n,
                                 absl::Span<const Parameter* const> weights) {
  // The stream enters once: it meets the first factors of adapters where it meets the weights.
  std::vector<const Parameter*> all(weights.begin(), weights.end());
  for (const Parameter* weight : weights) {
    if (weight->lora.a != nullptr) all.push_back(weight->lora.a);
  }
  std::vector<Tensor> products = Products(axis, stream, n, all);
  size_t low = weights.size();
  for (size_t i = 0; i < weights.size(); ++i) {
    const Parameter::LowRank& lora = weights[i]->lora;
    if (lora.a == nullptr) continue;
    products[i] = Add(products[i], Mul(Linear(products[low++], lora.b->working), lora.scale));
  }
  products.resize(weights.size());
  return products;
}

}  // namespace trireme
