#include "parallel/layers/column_linear.h"

#include <memory>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/ops/gemm.h"

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

}  // namespace

std::vector<Tensor> ColumnLinear(const TensorAxis& axis, const Tensor& stream, int64_t n,
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
  const auto backward = [=, num_inputs = inputs.size()](absl::Span<const Tensor> dys) -> Grads {
    if (axis.sharded_stream)
      *gathered = StartAllGatherRows(kept, n, axis.group, "stream rows again");
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

}  // namespace trireme
