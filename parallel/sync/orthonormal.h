// Orthonormal bases by Gram-Schmidt, each vector orthogonalized twice ("twice is enough", Parlett,
// "The symmetric eigenvalue problem", 6.9), in f64.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "parallel/sync/block_scale.h"

namespace trireme {

// The rows of basis[r, n], r <= n, become orthonormal; the first i of them span what the first i
// did. A row that depends on those before it, a zero row say, becomes the part orthogonal to them
// of the unit vector that they cover least: the result has r rows whatever comes in, the same on
// every rank for the same bits. Values that are not finite stay so.
template <typename T>
void MakeOrthonormal(T* basis, int64_t r, int64_t n) {
  std::vector<double> rows(r * n);
  std::vector<double> covered(n, 0);  // Sum of squares of a coordinate over the rows so far.
  const auto norm = [n](const double* x) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
    return std::sqrt(sum);
  };
  for (int64_t row = 0; row < r; ++row) {
    double* x = &rows[row * n];
    // Takes what earlier rows span out of x, once, and gives the norm of the rest.
    const auto project = [&] {
      for (int64_t other = 0; other < row; ++other) {
        const double* y = &rows[other * n];
        double dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < n; ++i) dot += x[i] * y[i];
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) x[i] -= dot * y[i];
      }
      return norm(x);
    };
    const T* in = basis + row * n;
    const T largest = LargestMagnitude(in, n);
    const double lift = LiftForSquares(largest);
    for (int64_t i = 0; i < n; ++i) x[i] = static_cast<double>(in[i]) * lift;
    const double before = norm(x);
    double after = project();
    // A rest of rounding errors is no direction.
    if (after <= 8 * std::numeric_limits<T>::epsilon() * before) {
      std::fill_n(x, n, 0.0);
      x[std::min_element(covered.begin(), covered.end()) - covered.begin()] = 1;
      after = project();
    }
    for (int64_t i = 0; i < n; ++i) x[i] /= after;
    after = project();
    T* out = basis + row * n;
    for (int64_t i = 0; i < n; ++i) {
      x[i] /= after;
      covered[i] += x[i] * x[i];
      out[i] = static_cast<T>(x[i]);
    }
  }
}

}  // namespace trireme
