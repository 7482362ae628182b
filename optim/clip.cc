#include "optim/clip.h"

#include <algorithm>

#include "core/device/kernel.h"
#include "core/ops/optimizer_kernels.h"

namespace trireme {

double SumOfSquares(const Tensor& x) {
  const Tensor sum =
      Tensor::Empty(x.device(), {1}, DType::kF64, MemoryKind::kWorkspace, "sum_of_squares");
  Launch(x.device(), &KernelTable::SumOfSquares, SumOfSquaresArgs{x.view(), sum.view()});
  return sum.Item();
}

double SumOfCountedSquares(const ParameterSet& parameters, const UnitTensors& gradients,
                           int tensor_rank) {
  const auto& all = parameters.parameters();
  if (std::all_of(all.begin(), all.end(),
                  [&](const auto& p) { return IsCounted(*p, tensor_rank); })) {
    return SumOfSquares(gradients.All());
  }
  double sum = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    if (IsCounted(*all[i], tensor_rank)) sum += SumOfSquares(gradients.of(i));
  }
  return sum;
}

double ClipFactor(double norm, double max_norm) {
  return max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
}

}  // namespace trireme
