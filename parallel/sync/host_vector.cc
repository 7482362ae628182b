#include "parallel/sync/host_vector.h"

namespace trireme {
namespace {

template <typename T>
void ScaleAll(T* x, int64_t n, T factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

template <typename T>
double Squares(const T* x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

}  // namespace

double HostSumOfSquares(const Tensor& x) {
  return x.dtype() == DType::kF64 ? Squares(x.data<double>(), x.numel())
                                  : Squares(x.data<float>(), x.numel());
}

void Scale(const Tensor& x, double factor) {
  if (factor == 1) return;
  if (x.dtype() == DType::kF64) {
    ScaleAll(x.data<double>(), x.numel(), factor);
  } else {
    ScaleAll(x.data<float>(), x.numel(), static_cast<float>(factor));
  }
}

}  // namespace trireme
