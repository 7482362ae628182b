// Where gradients of leaves end. The step loop supplies one sink per job; a plain one lives behind
// Tensor::Backward.
#pragma once

#include "core/tensor/tensor.h"

namespace trireme {

class GradientSink {
 public:
  virtual ~GradientSink() = default;

  // The buffer of a leaf's gradient, contiguous, in the accumulation type. When `fresh` it holds
  // garbage and the caller must overwrite it (beta = 0) instead of adding to it.
  struct Slot {
    Tensor buffer;
    bool fresh;
  };
  // The caller writes the slot before anything else is opened. An undefined buffer: this sink does
  // not want the leaf's gradient.
  virtual Slot Open(const Tensor& leaf) = 0;
  // For gradients that exist before backward reaches the leaf. True: `buffer`, which nobody else
  // uses, of the leaf's shape in the accumulation type, is its slot from now on, and the caller has
  // the fresh one to write. False: the caller opens a slot.
  virtual bool Adopt(const Tensor& leaf, const Tensor& buffer) {
    (void)leaf, (void)buffer;
    return false;
  }
};

// Adds alpha * grad to the leaf's slot.
void AddToSink(GradientSink& sink, const Tensor& leaf, const Tensor& grad, double alpha = 1);

}  // namespace trireme
