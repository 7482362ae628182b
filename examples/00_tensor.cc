// Tensors: made on a device, combined by ops, read back on the host.
#include <cstdio>

#include "trireme.h"

using namespace trireme;

int main() {
  const auto cpu = MakeCpuDevice({.num_threads = 1});

  const Tensor a = Tensor::FromVector(*cpu, {2, 3}, {1, 2, 3, 4, 5, 6}, DType::kF32);
  const Tensor row = Tensor::FromVector(*cpu, {3}, {10, 20, 30}, DType::kF32);
  std::printf("a + row        = %s\n", ToString(Add(a, row)).c_str());  // Broadcast, as in NumPy.

  // Slices and transposes are views: no element is copied.
  std::printf("a^T, last row  = %s\n", ToString(Slice(Transpose(a, 0, 1), 0, 2, 1)).c_str());
  std::printf("softmax(a)     = %s\n", ToString(Softmax(a)).c_str());

  // bf16 is stored in 16 bits; sums run in f32.
  const Tensor gram = MatMul(To(a, DType::kBF16), To(a, DType::kBF16), false, /*transpose_b=*/true);
  std::printf("a a^T          = %s\n", ToString(gram).c_str());
  std::printf("sum of squares = %g\n", Sum(Mul(a, a)).Item());
  return 0;
}
