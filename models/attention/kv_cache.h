// KvCache: keys and values of the tokens of earlier calls, for softmax attention step by step.
#pragma once

#include <vector>

#include "core/batch.h"
#include "core/tensor/tensor.h"

namespace trireme {

class KvCache {
 public:
  // Softmax attention of the tokens of `segments`, each of which goes on where it ended in the call
  // before, over all tokens of its sequence so far, or the last `window`. q [n, h, d]; k, v [n, g,
  // d] are added to the cache. Memory is linear in the longest sequence, or in the window and the
  // longest call. No derivatives.
  Tensor Attend(const Tensor& q, const Tensor& k, const Tensor& v,
                absl::Span<const Segment> segments, int64_t window, double scale);
  int64_t bytes() const;

 private:
  // Makes room for the tokens of `segments`.
  void Reserve(const Tensor& k, const Tensor& v, absl::Span<const Segment> segments,
               int64_t window);

  Tensor keys_, values_;        // [b, capacity, g, d]
  std::vector<int64_t> first_;  // Of each sequence: the position of the first row kept.
};

}  // namespace trireme
