#include "core/autograd/backward.h"
#include "core/autograd/graph_cut.h"

namespace trireme {

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
  return RecordNested("recompute", inputs, std::move(outputs),
                      [saved = std::move(saved), wanted = std::move(wanted), fn = std::move(fn)](
                          absl::Span<const Tensor> grad_outputs, BackwardRun& run) -> Grads {
                        // Cuts, not leaves: what reaches an input goes on from here, also the
                        // gradient of an input used as a weight, which would else end in the sink.
                        std::vector<GraphCut> cuts(saved.size());
                        std::vector<Tensor> outputs;
                        {
                          const EnableGrad enable_grad;
                          std::vector<Tensor> inputs = saved;
                          for (size_t i = 0; i < saved.size(); ++i) {
                            if (!wanted[i]) continue;
                            cuts[i] = GraphCut(saved[i]);
                            inputs[i] = cuts[i].tensor();
                          }
                          outputs = fn(inputs);
                        }
                        NestedBackward(outputs, grad_outputs, run);
                        Grads input_grads;
                        for (GraphCut& cut : cuts) input_grads.push_back(cut.TakeGrad());
                        return input_grads;
                      });
}

}  // namespace trireme
