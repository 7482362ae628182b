// Attention over keys that come in parts, in any order. What is known after some of them is exact:
// the output over these keys and its log-sum-exp, in the accumulation type, to which further keys
// are joined (Liu et al. 2023, Ring Attention). It is rounded once, at the end.
#pragma once

#include "core/ops/ops.h"
#include "core/tensor/tensor.h"
#include "parallel/sequence/kv_block.h"

namespace trireme {

class PartialAttention {
 public:
  // q [n, h, d].
  PartialAttention(const Tensor& q, int64_t value_width, double scale);

  void Add(const KvBlock& keys, const KeyRanges& ranges);

  // Over the keys so far, in the type of q: [n, h, dv], zeros for a query that saw none.
  Tensor Output() const;
  const Tensor& lse() const { return lse_; }  // [n, h]

 private:
  const Tensor q_;
  const double scale_;
  Tensor out_, lse_;
};

// The gradients, with the output and log-sum-exp over all keys.
class PartialAttentionBackward {
 public:
  PartialAttentionBackward(const Tensor& q, const Tensor& y, const Tensor& lse, const Tensor& dy,
                           double scale);

  // Adds the part of these keys to dq, and to `gradients`, which are in the accumulation type.
  void Add(const KvBlock& keys, const KeyRanges& ranges, const KvBlock& gradients);

  Tensor dq() const;  // In the type of q.

 private:
  const Tensor q_, dy_, lse_;
  const double scale_;
  Tensor delta_, dq_;
};

// x itself, or a copy in another type.
Tensor InType(const Tensor& x, DType dtype);

}  // namespace trireme
