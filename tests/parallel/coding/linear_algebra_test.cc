#include "parallel/coding/linear_algebra.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/rng.h"

namespace trireme {
namespace {

Matrix Drawn(int rows, int cols, int rank, uint64_t seed) {
  const RngKey key = MakeRngKey(seed, "matrix");
  Matrix a(rows, cols);
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < cols; ++j) {
      for (int k = 0; k < rank; ++k) {
        a(i, j) += NormalAt(key, i * 64 + k) * NormalAt(key, 10000 + j * 64 + k);
      }
    }
  }
  return a;
}

double Dot(const Matrix& a, int row, const std::vector<double>& x) {
  double sum = 0;
  for (int j = 0; j < a.cols; ++j) sum += a(row, j) * x[j];
  return sum;
}

// x is a least squares solution when the residual is orthogonal to the columns of A, and the
// shortest one when it is orthogonal to the null space of A.
TEST(PivotedQrTest, ShortestLeastSquaresOfEveryShapeAndRank) {
  for (const auto& [rows, cols, rank] :
       {std::tuple(5, 5, 5), std::tuple(7, 4, 4), std::tuple(4, 7, 4), std::tuple(6, 6, 3),
        std::tuple(8, 5, 2), std::tuple(5, 8, 2), std::tuple(1, 1, 1), std::tuple(3, 1, 1),
        std::tuple(1, 3, 1), std::tuple(4, 4, 0)}) {
    const Matrix a = Drawn(rows, cols, rank, rows * 100 + cols);
    const Matrix transposed = Transposed(a);
    const PivotedQr qr(a);
    EXPECT_EQ(qr.rank(), rank);
    std::vector<double> b(rows);
    for (int i = 0; i < rows; ++i) b[i] = std::sin(i + 1.0);
    const std::vector<double> x = qr.Solve(b);
    std::vector<double> residual(rows);
    for (int i = 0; i < rows; ++i) residual[i] = b[i] - Dot(a, i, x);
    for (int j = 0; j < cols; ++j) EXPECT_NEAR(Dot(transposed, j, residual), 0, 1e-10);
    const Matrix null = PivotedQr(transposed).LeftNullSpace();
    ASSERT_EQ(null.rows, cols - rank);
    for (int i = 0; i < null.rows; ++i) EXPECT_NEAR(Dot(null, i, x), 0, 1e-10);
  }
}

TEST(PivotedQrTest, LeftNullSpaceIsOrthonormal) {
  const Matrix a = Drawn(9, 6, 4, 1);
  const Matrix null = PivotedQr(a).LeftNullSpace();
  ASSERT_EQ(null.rows, 5);
  for (int i = 0; i < null.rows; ++i) {
    for (int j = 0; j < null.rows; ++j) {
      double sum = 0;
      for (int k = 0; k < 9; ++k) sum += null(i, k) * null(j, k);
      EXPECT_NEAR(sum, i == j, 1e-12);
    }
    for (int j = 0; j < 6; ++j) {
      double sum = 0;
      for (int k = 0; k < 9; ++k) sum += null(i, k) * a(k, j);
      EXPECT_NEAR(sum, 0, 1e-10);
    }
  }
}

}  // namespace
}  // namespace trireme
