#include "core/autograd/backward.h"

namespace trireme {

Tensor UnitBoundary(const Tensor& x, int unit) {
  if (!NeedsGrad({x})) return x;
  return RecordNested("unit_boundary", {x}, {x.Detach()},
                      [unit](absl::Span<const Tensor> grad_outputs, BackwardRun& run) -> Grads {
                        if (run.deferred == nullptr) {
                          run.sink.UnitDone(unit);
                        } else {
                          run.deferred->Add([unit](GradientSink& sink) { sink.UnitDone(unit); });
                        }
                        return {grad_outputs[0]};
                      })[0];
}

std::vector<Tensor> Recompute(absl::Span<const Tensor> inputs, RecomputedFn fn) {
  std::vector<Tensor> outputs;
  {
    const NoGrad no_grad;
    outputs = fn(inputs);
  }
  for (Tensor& output : outputs) output = output.Detach();
  std::vector<Tensor> saved;
  for (const Tensor& input : inputs) saved.push_back(input.Detach());
  std::vector<bool> wanted;
  for (const Tensor& input : inputs) wanted.push_back(input.requires_grad());
  return RecordNested(
      "recompute", inputs, std::move(outputs),
      [saved = std::move(saved), wanted = std::move(wanted), fn = std::move(fn)](
          absl::Span<const Tensor> grad_outputs, BackwardRun& run) -> Grads {
        std::vector<Tensor> leaves;
        for (size_t i = 0; i < saved.size(); ++i) {
          leaves.push_back(saved[i].Detach());
          if (wanted[i]) leaves.back().set_requires_grad();
        }
        std::vector<Tensor> again;
        {
          const EnableGrad enable_grad;
          again = fn(leaves);
        }
        return BackwardTo(leaves, again, grad_outputs, run);
      });
}

}  // namespace trireme
