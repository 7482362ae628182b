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
        // The inputs are outputs of a node, not leaves: what reaches them goes on from here, also
        // the gradient of an input used as a weight, which would else end in the sink.
        Grads input_grads(saved.size());
        std::vector<Tensor> outputs;
        {
          const EnableGrad enable_grad;
          std::vector<Tensor> inputs = saved;
          for (size_t i = 0; i < saved.size(); ++i) {
            if (!wanted[i]) continue;
            inputs[i] = RecordNested(
                "recompute_input", {}, {saved[i].Detach()},
                [&input_grads, i](absl::Span<const Tensor> grads, BackwardRun&) -> Grads {
                  input_grads[i] = grads[0];
                  return {};
                })[0];
          }
          outputs = fn(inputs);
        }
        NestedBackward(outputs, grad_outputs, run);
        return input_grads;
      });
}

}  // namespace trireme
