// Gradients: the slope of a small loss, from backward and from a difference quotient.
#include <cstdio>

#include "trireme.h"

using namespace trireme;

// mean((tanh(x w) - y)^2)
static Tensor Loss(const Tensor& x, const Tensor& w, const Tensor& y) {
  const Tensor error = Sub(Tanh(MatMul(x, w)), y);
  return Mean(Mul(error, error));
}

int main() {
  const auto cpu = MakeCpuDevice();
  const Tensor x = Tensor::FromVector(*cpu, {3, 2}, {1, 2, -1, 0.5, 0.3, -2}, DType::kF64);
  const Tensor y = Tensor::FromVector(*cpu, {3, 1}, {0.5, -0.5, 0.1}, DType::kF64);
  Tensor w = Tensor::FromVector(*cpu, {2, 1}, {0.4, -0.3}, DType::kF64).set_requires_grad();

  Loss(x, w, y).Backward();
  std::printf("backward   d loss / d w = %s\n", ToString(w.grad()).c_str());

  const double h = 1e-6;
  const Tensor up = Tensor::FromVector(*cpu, {2, 1}, {0.4 + h, -0.3}, DType::kF64);
  const Tensor down = Tensor::FromVector(*cpu, {2, 1}, {0.4 - h, -0.3}, DType::kF64);
  const double slope = (Loss(x, up, y).Item() - Loss(x, down, y).Item()) / (2 * h);
  std::printf("difference d loss / d w[0] = %.6f\n", slope);

  // Plain gradient descent.
  for (int step = 0; step < 200; ++step) {
    w.ClearGrad();
    Loss(x, w, y).Backward();
    w.Detach().Accumulate(w.grad(), -0.5);
  }
  std::printf("after 200 steps, loss = %.4f\n", Loss(x, w.Detach(), y).Item());
  return 0;
}
