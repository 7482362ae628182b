#include "core/tensor/shape.h"

#include <algorithm>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "core/base/log.h"

namespace trireme {

Shape::Shape(absl::Span<const int64_t> dims) {
  for (const int64_t dim : dims) Append(dim);
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (const int64_t dim : dims()) n *= dim;
  return n;
}

void Shape::Append(int64_t dim) {
  CHECK_LT(rank_, kMaxRank) << "[shape]";
  CHECK_GE(dim, 0) << "[shape]";
  dims_[rank_++] = dim;
}

Shape Shape::WithDim(int dim, int64_t size) const {
  Shape result = *this;
  result[dim] = size;
  return result;
}

Shape Shape::WithoutDim(int dim) const {
  dim = CheckDim(dim);
  Shape result;
  for (int i = 0; i < rank_; ++i) {
    if (i != dim) result.Append(dims_[i]);
  }
  return result;
}

int Shape::CheckDim(int dim) const {
  const int normalized = dim < 0 ? dim + rank_ : dim;
  CHECK(normalized >= 0 && normalized < rank_) << "dim " << dim << " of " << ToString();
  return normalized;
}

std::string Shape::ToString() const { return absl::StrCat("[", absl::StrJoin(dims(), ", "), "]"); }

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.ToString(); }

Shape DenseStrides(const Shape& shape) {
  Shape strides = shape;
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

Shape BroadcastShapes(const Shape& a, const Shape& b) {
  Shape result = a.rank() >= b.rank() ? a : b;
  for (int i = 1; i <= std::min(a.rank(), b.rank()); ++i) {
    CHECK(a[-i] == b[-i] || a[-i] == 1 || b[-i] == 1)
        << "shapes " << a << " and " << b << " do not broadcast";
    result[-i] = a[-i] == 1 ? b[-i] : a[-i];
  }
  return result;
}

}  // namespace trireme
