// The little dense linear algebra that decoding takes: systems of a few hundred unknowns, in f64.
#pragma once

#include <vector>

#include "absl/types/span.h"

namespace trireme {

struct Matrix {
  Matrix(int rows, int cols) : rows(rows), cols(cols), data(static_cast<size_t>(rows) * cols) {}

  double& operator()(int i, int j) { return data[static_cast<size_t>(i) * cols + j]; }
  double operator()(int i, int j) const { return data[static_cast<size_t>(i) * cols + j]; }

  int rows, cols;
  std::vector<double> data;  // Row after row.
};

Matrix Transposed(const Matrix& a);

// A P = Q R by Householder reflections, the longest column that is left first.
class PivotedQr {
 public:
  explicit PivotedQr(Matrix a);

  int rank() const { return rank_; }
  // The shortest x of those that make |A x - b| least.
  std::vector<double> Solve(absl::Span<const double> b) const;
  // Orthonormal rows y with y A = 0, all of them.
  Matrix LeftNullSpace() const;

 private:
  void Reflect(int k, double* x) const;  // x := (1 - tau v v') x with the k-th reflection.

  Matrix qr_;  // R above the diagonal, below it the reflections.
  std::vector<double> diagonal_, tau_;
  std::vector<int> columns_;  // Column k of A P is column columns_[k] of A.
  int rank_ = 0;
};

}  // namespace trireme
