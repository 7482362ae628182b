// The rows before each run that other ranks have: what a short convolution or a token shift reads
// at the beginning of a piece. Pieces may be shorter than the halo, or empty; then it comes from
// several ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "core/batch.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"

namespace trireme {

// Rows [from, from + length) of a rank, for the halo before row `to` of `to_rank`, where a piece
// begins: from its row `offset` on.
struct HaloCopy {
  int from_rank, to_rank;
  int64_t from, length;
  int64_t to, offset;
};
// Of all ranks, in an order that all know. A function of the cut alone: rows travel whatever
// document they belong to, so that the bytes are known before the documents are.
std::vector<HaloCopy> HaloCopies(absl::Span<const std::vector<Segment>> segments, int64_t width);

// Of x [n, c], the `width` rows before each run of this rank (DocumentRuns), [runs, width, c];
// zeros before the documents begin. Undefined when no rank needs a row. Differentiable. A
// collective, in backward too.
//
// Bytes sent by a rank: c elements for each of its rows that is among the `width` before a piece of
// another rank; as many come back in backward as it received.
Tensor TokenHalo(const Tensor& x, int64_t width, const TokenLayout& layout, Communicator& axis);

}  // namespace trireme
