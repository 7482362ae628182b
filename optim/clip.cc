#include "optim/clip.h"

#include "core/device/kernel.h"
#include "core/ops/optimizer_kernels.h"

namespace trireme {

double SumOfSquares(const Tensor& x) {
  const Tensor sum =
      Tensor::Empty(x.device(), {1}, DType::kF64, MemoryKind::kWorkspace, "sum_of_squares");
  Launch(x.device(), &KernelTable::SumOfSquares, SumOfSquaresArgs{x.view(), sum.view()});
  return sum.Item();
}

double ClipFactor(double norm, double max_norm) {
  return max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
}

}  // namespace trireme
