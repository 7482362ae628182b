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

// losses[i] = -log softmax(logits[i])[labels[i]], 0 where the label (i32) is kIgnoredLabel. norms
// [n, 2] holds max_j logits[i, j] and log sum_j e^(logits[i, j] - max), kept apart since their sum
// would round large logits; it is undefined in ignored rows. Both are in the accumulation type of
// logits. Throws Failure(OUT_OF_RANGE) on another label outside [0, c).
struct CrossEntropyArgs {
  View logits, labels, losses, norms;
};

// dlogits = seed (softmax(logits) - onehot(labels)), zero in ignored rows. seed is one element in
// the accumulation type, read on the device; undefined means 1. dlogits may be logits itself, or of
// a shorter type.
struct CrossEntropyBackwardArgs {
  View logits, labels, norms, seed, dlogits;
};

}  // namespace trireme
