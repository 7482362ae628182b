// Short convolutions (ops.h).
#include "core/ops/ops.h"

namespace trireme {

Tensor ShortConv(const Tensor& x, const Tensor& weight, const Tensor& bias,
                 absl::Span<const TokenRun> runs, const Tensor& history) {
  return ShortConvReference(x, weight, bias, runs, history);
}

}  // namespace trireme
