// Keys and values of some tokens, or their gradients, side by side in one piece of memory: they
// travel as one message.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

#include "core/tensor/tensor.h"
#include "parallel/sequence/sequence_cut.h"

namespace trireme {

// What one token has: legend as in kv_exchange.h.
struct KvShape {
  int64_t kv_heads, width, value_width;
  int64_t elements() const { return kv_heads * (width + value_width); }
};

struct KvBlock {
  Tensor flat;  // All of k, then all of v.
  Tensor k;     // [m, g, d], dense.
  Tensor v;     // [m, g, dv], dense.
};

// Memory is not initialized.
KvBlock EmptyKv(Device& device, const KvShape& shape, int64_t tokens, DType dtype);
KvBlock ZeroKv(Device& device, const KvShape& shape, int64_t tokens, DType dtype);
// A copy of k [m, g, d] and v [m, g, dv], of any strides.
KvBlock PackKv(const Tensor& k, const Tensor& v);

// The blocks of several ranks, one after another in `by_rank`, as one block in the order of
// `order`; and back. `tokens` are those of each rank.
void SortKv(const Tensor& by_rank, const KvShape& shape, absl::Span<const int64_t> tokens,
            const TokenOrder& order, const KvBlock& sorted);
void UnsortKv(const KvBlock& sorted, const KvShape& shape, absl::Span<const int64_t> tokens,
              const TokenOrder& order, const Tensor& by_rank);

}  // namespace trireme
