#include "parallel/coding/linear_algebra.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace trireme {
namespace {

// A column that is shorter than this, relative to the longest one, depends on those before it.
constexpr double kDependent = 1e-11;

}  // namespace

Matrix Transposed(const Matrix& a) {
  Matrix t(a.cols, a.rows);
  for (int i = 0; i < a.rows; ++i) {
    for (int j = 0; j < a.cols; ++j) t(j, i) = a(i, j);
  }
  return t;
}

PivotedQr::PivotedQr(Matrix a) : qr_(std::move(a)), columns_(qr_.cols) {
  // Kept column by column while it is worked on: a reflection is the inner loop.
  Matrix columns = Transposed(qr_);
  const int rows = qr_.rows, cols = qr_.cols;
  const auto column = [&](int j) { return columns.data.data() + static_cast<size_t>(j) * rows; };
  const auto squares = [&](int j, int from) {
    return std::inner_product(column(j) + from, column(j) + rows, column(j) + from, 0.0);
  };
  std::iota(columns_.begin(), columns_.end(), 0);
  double longest = 0;
  for (int k = 0; k < std::min(rows, cols); ++k) {
    int pivot = k;
    double pivot_squares = -1;
    for (int j = k; j < cols; ++j) {
      const double of_j = squares(j, k);
      if (of_j > pivot_squares) {
        pivot = j;
        pivot_squares = of_j;
      }
    }
    const double length = std::sqrt(pivot_squares);
    longest = std::max(longest, length);
    if (length == 0 || length < kDependent * longest) break;
    std::swap_ranges(column(k), column(k) + rows, column(pivot));
    std::swap(columns_[k], columns_[pivot]);

    double* v = column(k);
    const double alpha = v[k] > 0 ? -length : length;
    v[k] -= alpha;
    const double tau = 2 / squares(k, k);
    for (int j = k + 1; j < cols; ++j) {
      double* x = column(j);
      const double scale = tau * std::inner_product(v + k, v + rows, x + k, 0.0);
      for (int i = k; i < rows; ++i) x[i] -= scale * v[i];
    }
    diagonal_.push_back(alpha);
    tau_.push_back(tau);
    rank_ = k + 1;
  }
  qr_ = Transposed(columns);
}

void PivotedQr::Reflect(int k, double* x) const {
  double sum = 0;
  for (int i = k; i < qr_.rows; ++i) sum += qr_(i, k) * x[i];
  for (int i = k; i < qr_.rows; ++i) x[i] -= tau_[k] * sum * qr_(i, k);
}

std::vector<double> PivotedQr::Solve(absl::Span<const double> b) const {
  std::vector<double> y(b.begin(), b.end());
  for (int k = 0; k < rank_; ++k) Reflect(k, y.data());
  const auto upper = [&](int i, int j) { return i == j ? diagonal_[i] : qr_(i, j); };
  std::vector<double> x(qr_.cols);
  if (rank_ == qr_.cols) {
    for (int i = rank_ - 1; i >= 0; --i) {
      double sum = y[i];
      for (int j = i + 1; j < rank_; ++j) sum -= upper(i, j) * x[columns_[j]];
      x[columns_[i]] = sum / upper(i, i);
    }
    return x;
  }
  // More unknowns than equations: with [R11 R12]' P = Z S, x = Z S'^-1 y is the shortest.
  Matrix wide(qr_.cols, rank_);
  for (int i = 0; i < rank_; ++i) {
    for (int j = i; j < qr_.cols; ++j) wide(j, i) = upper(i, j);
  }
  const PivotedQr turned(std::move(wide));
  std::vector<double> z(qr_.cols);
  for (int i = 0; i < turned.rank_; ++i) {
    double sum = y[turned.columns_[i]];
    for (int j = 0; j < i; ++j) sum -= turned.qr_(j, i) * z[j];
    z[i] = sum / turned.diagonal_[i];
  }
  for (int k = turned.rank_ - 1; k >= 0; --k) turned.Reflect(k, z.data());
  for (int j = 0; j < qr_.cols; ++j) x[columns_[j]] = z[j];
  return x;
}

Matrix PivotedQr::LeftNullSpace() const {
  Matrix rows(qr_.rows - rank_, qr_.rows);
  for (int i = 0; i < rows.rows; ++i) {
    double* y = rows.data.data() + static_cast<size_t>(i) * rows.cols;
    y[rank_ + i] = 1;
    for (int k = rank_ - 1; k >= 0; --k) Reflect(k, y);
  }
  return rows;
}

}  // namespace trireme
