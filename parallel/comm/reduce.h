// Sums, maxima and minima of one array per rank, in a given order: element by element
//   output = w[o0] x[o0] + w[o1] x[o1] + ...   left to right, in the accumulation type, rounded
//   once.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "core/tensor/dtype.h"
#include "parallel/comm/communicator.h"

namespace trireme {

struct Reduction {
  DType dtype = DType::kF32;
  ReduceOp op = ReduceOp::kSum;
  std::vector<int> order;       // A permutation of the ranks.
  std::vector<double> weights;  // By rank; empty: none.
};

// inputs[r] is rank r's array of `count` elements. `output` may be one of them.
void Reduce(const Reduction& reduction, absl::Span<const char* const> inputs, char* output,
            int64_t count);

}  // namespace trireme
