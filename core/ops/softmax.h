// Arguments of the softmax family. Matrices are [n, c], contiguous; a row is one distribution.
#pragma once

#include "core/tensor/view.h"

namespace trireme {

// y = softmax(x), or its logarithm.
struct SoftmaxArgs {
  View x, y;
  bool log = false;
};

// dx = y (dy - sum(dy y)), or with the logarithm: dx = dy - e^y sum(dy).
struct SoftmaxBackwardArgs {
  View y, dy, dx;
  bool log = false;
};

// losses[i] = lse[i] - logits[i, labels[i]] with lse[i] = log sum_j e^logits[i, j]; where the label (i32)
// is kIgnoredLabel, losses[i] = 0 and lse[i] is undefined. losses and lse are in the accumulation type
// of logits. Throws Failure(OUT_OF_RANGE) on another label outside [0, c).
struct CrossEntropyArgs {
  View logits, labels, losses, lse;
};

// dlogits = seed (softmax(logits) - onehot(labels)), zero in ignored rows. seed is one element in the
// accumulation type, read on the device; undefined means 1. dlogits may be logits itself, or of a
// shorter type.
struct CrossEntropyBackwardArgs {
  View logits, labels, lse, seed, dlogits;
};

}  // namespace trireme
