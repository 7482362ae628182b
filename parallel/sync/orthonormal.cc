#include "parallel/sync/orthonormal.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "parallel/sync/block_scale.h"
#include "parallel/sync/lane_sums.h"

namespace trireme {
namespace {

constexpr int64_t kBlock = 8;

template <typename T>
double Norm(const T* x, int64_t n) {
  return std::sqrt(LaneSum(x, n, [](F64Lanes v) { return v * v; }));
}

template <typename T>
void Multiply(T* x, int64_t n, double factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(x[i] * factor);
}

// Takes what the orthonormal rows [first, last) span out of x.
template <typename T>
void ProjectRow(const T* basis, int64_t first, int64_t last, int64_t n, T* x) {
  for (int64_t row = first; row < last; ++row) {
    const T* y = basis + row * n;
    const T dot = static_cast<T>(LaneDot(x, y, n));
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) x[i] -= dot * y[i];
  }
}

// The coordinate in which `num_rows` rows have the least: at most num_rows / n of its square.
template <typename T>
int64_t LeastCovered(const T* basis, int64_t num_rows, int64_t n) {
  std::vector<double> covered(n, 0);
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t i = 0; i < n; ++i) {
      covered[i] += static_cast<double>(basis[row * n + i]) * basis[row * n + i];
    }
  }
  return std::min_element(covered.begin(), covered.end()) - covered.begin();
}

}  // namespace

template <typename T>
void MakeOrthonormal(T* basis, int64_t r, int64_t n, GemmLibrary& library, Device& device) {
  constexpr DType kType = DTypeOf<T>::value;
  std::vector<T> overlaps(kBlock * r);
  for (int64_t first = 0; first < r; first += kBlock) {
    const int64_t last = std::min(r, first + kBlock);
    T* block = basis + first * n;
    double norms[kBlock];
    for (int64_t row = first; row < last; ++row) {
      T* x = basis + row * n;
      // To a size whose squares neither overflow nor vanish; what comes out has no size.
      const T largest = LargestMagnitude(x, n);
      if (largest > 0 && std::isfinite(largest)) {
        const int exponent = std::ilogb(largest);
        for (int64_t i = 0; i < n; ++i) x[i] = std::ldexp(x[i], -exponent);
      }
      norms[row - first] = Norm(x, n);
    }
    for (int pass = 0; pass < 2 && first > 0; ++pass) {
      library.Run({kType,
                   kType,
                   last - first,
                   first,
                   n,
                   {block, n},
                   {basis, n, true},
                   overlaps.data(),
                   first},
                  device);
      library.Run({kType,
                   kType,
                   last - first,
                   n,
                   first,
                   {overlaps.data(), first},
                   {basis, n},
                   block,
                   n,
                   -1,
                   1},
                  device);
    }
    for (int64_t row = first; row < last; ++row) {
      T* x = basis + row * n;
      const double of_block = first == 0 ? norms[row - first] : Norm(x, n);
      ProjectRow(basis, first, row, n, x);
      double after = row == first ? of_block : Norm(x, n);
      // A rest of rounding errors is no direction.
      if (after <= 8 * std::numeric_limits<T>::epsilon() * norms[row - first]) {
        std::fill_n(x, n, T(0));
        x[LeastCovered(basis, row, n)] = 1;
        ProjectRow(basis, 0, row, n, x);
        Multiply(x, n, 1 / Norm(x, n));
        ProjectRow(basis, 0, row, n, x);
        after = Norm(x, n);
      } else if (after < 0.5 * of_block) {
        Multiply(x, n, 1 / after);
        ProjectRow(basis, 0, row, n, x);
        after = Norm(x, n);
      }
      Multiply(x, n, 1 / after);
    }
  }
}

template void MakeOrthonormal(float*, int64_t, int64_t, GemmLibrary&, Device&);
template void MakeOrthonormal(double*, int64_t, int64_t, GemmLibrary&, Device&);

}  // namespace trireme
