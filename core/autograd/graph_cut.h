// GraphCut: a tensor taken out of its graph, so that backward runs piece by piece.
//
//   GraphCut cut(x);            // x was made by an earlier piece, or came from another rank
//   y = F(cut.tensor());
//   Backward({y}, {dy}, sink);  // ends at the cut ...
//   dx = cut.TakeGrad();        // ... and leaves there what reached it
#pragma once

#include <memory>

#include "core/tensor/tensor.h"

namespace trireme {

class GraphCut {
 public:
  GraphCut() = default;
  // x may be undefined; then so is tensor().
  explicit GraphCut(const Tensor& x);

  // The same data. Requires a gradient whether x does or not; recorded only while recording is on.
  const Tensor& tensor() const { return tensor_; }
  // Undefined when no gradient came.
  Tensor TakeGrad() { return grad_ == nullptr ? Tensor() : std::move(*grad_); }

 private:
  Tensor tensor_;
  std::shared_ptr<Tensor> grad_;
};

}  // namespace trireme
