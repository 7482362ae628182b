// The rows before each run that other ranks have: what a short convolution or a token shift reads
// at the beginning of a piece. Pieces may be shorter than the halo, or empty; then it comes from
// several ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "core/batch.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"

namespace trireme {

// Who sends what. A function of the cut alone: rows travel whatever document they belong to, so
// that the bytes are known before the documents are.
struct HaloPlan {
  // Rows [from, from + length) of a rank, to the halo of a run of `to_rank`, from its row `offset`.
  struct Copy {
    int from_rank, to_rank;
    int64_t from, length;
    int64_t run, offset;
  };
  std::vector<Copy> copies;  // Of all ranks, in an order that all know.
  int64_t num_runs = 0;      // Of this rank.
  // Of the halo of run `run`, rows [0, rows) are before its document. Whole halos of runs that no
  // row comes to are not among them.
  struct Blank {
    int64_t run, rows;
  };
  std::vector<Blank> blanks;
};
HaloPlan PlanHalo(const TokenLayout& layout, int64_t width, int rank);

// Of x [n, c], the `width` rows before each run of this rank (DocumentRuns), [runs, width, c];
// zeros before the documents begin. Undefined when no rank needs a row. Differentiable. A
// collective, in backward too.
//
// Bytes sent by a rank: c elements for each of its rows that is among the `width` before a piece of
// another rank; as many come back in backward as it received.
Tensor TokenHalo(const Tensor& x, int64_t width, const TokenLayout& layout, Communicator& axis);

}  // namespace trireme
