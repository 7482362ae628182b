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
// would round large logits; both are 0 in ignored rows. They are in the accumulation type of
// logits. Throws Failure(OUT_OF_RANGE) on another label outside [0, num_classes).
//
// When the c columns are only the classes [first, first + c) of num_classes, losses[i] is the logit
// of the label, or 0 when it is not among them: what merges with the other parts.
struct CrossEntropyArgs {
  View logits, labels, losses, norms;
  int64_t first = 0;
  int64_t num_classes = 0;
};

// dlogits = seed (softmax(logits) - onehot(labels)), zero in ignored rows. seed is one element in
// the accumulation type, read on the device; undefined means 1. dlogits may be logits itself, or of
// a shorter type. norms are those of all classes, of which the columns may be a part.
struct CrossEntropyBackwardArgs {
  View logits, labels, norms, seed, dlogits;
  int64_t first = 0;
};

}  // namespace trireme
