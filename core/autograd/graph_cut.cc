#include "core/autograd/graph_cut.h"

#include "core/autograd/node.h"

namespace trireme {

GraphCut::GraphCut(const Tensor& x) {
  if (!x.defined()) return;
  grad_ = std::make_shared<Tensor>();
  tensor_ = RecordNested("graph_cut", {}, {x.Detach()},
                         [grad = grad_](absl::Span<const Tensor> grads, BackwardRun&) -> Grads {
                           *grad = grads[0];
                           return {};
                         })[0];
}

}  // namespace trireme
