#include "core/tensor/box.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "core/base/log.h"

namespace trireme {

std::string Box::ToString() const {
  std::vector<std::string> ranges;
  for (int i = 0; i < rank(); ++i) {
    ranges.push_back(absl::StrCat(begin[i], ":", begin[i] + size[i]));
  }
  return absl::StrCat("[", absl::StrJoin(ranges, ", "), "]");
}

std::ostream& operator<<(std::ostream& out, const Box& box) { return out << box.ToString(); }

StatusOr<int64_t> CheckedNumel(absl::Span<const int64_t> dims) {
  // Zeros are left out of the product: strides are partial products, and they must fit too.
  int64_t n = 1;
  bool overflow = false, empty = false;
  for (const int64_t dim : dims) {
    if (dim < 0) return absl::InvalidArgumentError(absl::StrCat("negative dimension ", dim));
    empty |= dim == 0;
    overflow |= __builtin_mul_overflow(n, dim == 0 ? 1 : dim, &n);
  }
  if (overflow) {
    return absl::InvalidArgumentError(
        absl::StrCat("shape [", absl::StrJoin(dims, ", "), "] has 2^63 elements or more"));
  }
  return empty ? 0 : n;
}

Status CheckInside(const Box& box, const Shape& whole) {
  bool inside = box.begin.rank() == whole.rank() && box.size.rank() == whole.rank();
  for (int i = 0; inside && i < whole.rank(); ++i) {
    inside = box.begin[i] >= 0 && box.size[i] >= 0 && box.begin[i] <= whole[i] &&
             box.size[i] <= whole[i] - box.begin[i];
  }
  if (inside) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("begin ", box.begin.ToString(), ", size ", box.size.ToString(),
                   " is no box of a tensor of shape ", whole.ToString()));
}

Box Intersect(const Box& a, const Box& b) {
  CHECK_EQ(a.rank(), b.rank()) << "[intersect]";
  Box result = a;
  for (int i = 0; i < a.rank(); ++i) {
    const int64_t begin = std::max(a.begin[i], b.begin[i]);
    const int64_t end = std::min(a.begin[i] + a.size[i], b.begin[i] + b.size[i]);
    result.begin[i] = begin;
    result.size[i] = std::max<int64_t>(end - begin, 0);
  }
  return result;
}

Status CheckTiles(const Shape& whole, absl::Span<const Box> boxes) {
  for (const Box& box : boxes) {
    RETURN_IF_ERROR(CheckInside(box, whole));
    if (box.numel() == 0) {
      return absl::InvalidArgumentError(absl::StrCat("box ", box.ToString(), " is empty"));
    }
  }
  std::vector<const Box*> order(boxes.size());
  for (size_t i = 0; i < boxes.size(); ++i) order[i] = &boxes[i];
  const bool scalar = whole.rank() == 0;
  std::stable_sort(order.begin(), order.end(), [scalar](const Box* a, const Box* b) {
    return !scalar && a->begin[0] < b->begin[0];
  });
  // Sweeps along dimension 0; `open` are the boxes that reach the current position.
  std::vector<const Box*> open;
  int64_t covered = 0;
  for (const Box* box : order) {
    if (!scalar) {
      open.erase(
          std::remove_if(open.begin(), open.end(),
                         [box](const Box* o) { return o->begin[0] + o->size[0] <= box->begin[0]; }),
          open.end());
    }
    for (const Box* other : open) {
      if (Intersect(*box, *other).numel() > 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("boxes ", other->ToString(), " and ", box->ToString(), " overlap"));
      }
    }
    open.push_back(box);
    covered += box->numel();
  }
  if (covered != whole.numel()) {
    return absl::InvalidArgumentError(absl::StrCat("boxes cover ", covered, " of ", whole.numel(),
                                                   " elements of ", whole.ToString()));
  }
  return absl::OkStatus();
}

BoxRuns::BoxRuns(const Shape& source, const Shape& source_begin, const Shape& dest,
                 const Shape& dest_begin, const Shape& size)
    : outer_(size), source_strides_(DenseStrides(source)), dest_strides_(DenseStrides(dest)) {
  if (size.numel() == 0) return;
  for (int i = 0; i < size.rank(); ++i) {
    source_offset_ += source_begin[i] * source_strides_[i];
    dest_offset_ += dest_begin[i] * dest_strides_[i];
  }
  // A run takes in one more dimension as long as it spans the ones inside it on both sides.
  length_ = 1;
  for (int i = size.rank() - 1; i >= 0; --i) {
    length_ *= size[i];
    outer_[i] = 1;
    if (size[i] != source[i] || size[i] != dest[i]) break;
  }
  count_ = outer_.numel();
}

BoxRuns::Run BoxRuns::operator[](int64_t k) const {
  Run run{source_offset_, dest_offset_};
  for (int i = outer_.rank() - 1; i >= 0; --i) {
    const int64_t index = k % outer_[i];
    k /= outer_[i];
    run.source += index * source_strides_[i];
    run.dest += index * dest_strides_[i];
  }
  return run;
}

}  // namespace trireme
