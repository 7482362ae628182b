// Arguments of the multi-tensor kernels of the step: updates and the gradient norm.
#pragma once

#include <cstdint>

#include "core/tensor/view.h"

namespace trireme {

// One parameter in an update. All views are dense, of equal size; owned, grad and states share the
// accumulation type. working (the copy in the compute type) is written too unless it is undefined.
struct UpdateItem {
  View owned, grad, working;
  View states[2];
  double learning_rate;
  double weight_decay;
};

// AdamW (Loshchilov & Hutter 2019, algorithm 2): states are the first and second moments; decay is
// decoupled. g = grad_scale * grad.
struct AdamWArgs {
  const UpdateItem* items;  // On the host.
  int64_t num_items;
  double grad_scale;
  double beta1, beta2, epsilon;
  int64_t step;  // From 1, for the bias corrections.
};

// SGD with momentum: g = grad_scale * grad + weight_decay * p; b = momentum * b + (1 - dampening) *
// g, with b = g at step 1; p -= lr * (nesterov ? g + momentum * b : b). momentum 0 has no state.
struct SgdArgs {
  const UpdateItem* items;
  int64_t num_items;
  double grad_scale;
  double momentum, dampening;
  bool nesterov;
  int64_t step;
};

// sum = sum of squares of the dense x, in f64, in an order that depends on the size only.
struct SumOfSquaresArgs {
  View x;
  View sum;  // f64 [1]
};

}  // namespace trireme
