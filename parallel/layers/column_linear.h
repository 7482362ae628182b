// Products cut by columns: each rank has rows of the weights, and computes its columns of the
// outputs.
#pragma once

#include <vector>

#include "parallel/layers/tensor_axis.h"

namespace trireme {

// From the residual stream to its products with each of `weights` [out_r, in]: y_i [n, out_r]. `n`
// is the number of rows of the whole stream. One op, so that in backward the gradient of the stream
// is on its way while the gradients of the weights are computed; with a sharded stream, the rows of
// the other ranks are gathered again then, not kept. Adapters (lora.h) are included.
std::vector<Tensor> ColumnLinear(const TensorAxis& axis, const Tensor& stream, int64_t n,
                                 absl::Span<const Parameter* const> weights);

}  // namespace trireme
