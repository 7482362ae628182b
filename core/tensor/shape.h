// Shape: up to six dimensions, by value, no allocation.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/types/span.h"

namespace trireme {

inline constexpr int kMaxRank = 6;

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims)
      : Shape(absl::Span<const int64_t>(dims.begin(), dims.size())) {}
  explicit Shape(absl::Span<const int64_t> dims);

  int rank() const { return rank_; }
  // Negative dims count from the end.
  int64_t operator[](int dim) const { return dims_[CheckDim(dim)]; }
  int64_t& operator[](int dim) { return dims_[CheckDim(dim)]; }
  int64_t numel() const;
  absl::Span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }

  void Append(int64_t dim);
  Shape WithDim(int dim, int64_t size) const;
  Shape WithoutDim(int dim) const;

  // "dim" normalized to [0, rank); CHECKs the range.
  int CheckDim(int dim) const;

  friend bool operator==(const Shape& a, const Shape& b) { return a.dims() == b.dims(); }
  std::string ToString() const;  // "[2, 3]"

 private:
  std::array<int64_t, kMaxRank> dims_ = {};
  int rank_ = 0;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);

// Row-major strides of a dense tensor.
Shape DenseStrides(const Shape& shape);

// NumPy's rule: right-aligned, a dimension of 1 stretches. CHECKs that the two fit.
Shape BroadcastShapes(const Shape& a, const Shape& b);

}  // namespace trireme
