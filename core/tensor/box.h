// Box: a part of a tensor that is contiguous along every dimension.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "core/base/status.h"
#include "core/tensor/shape.h"

namespace trireme {

// Elements [begin[i], begin[i] + size[i]) along each dimension i. A scalar has one box, of rank 0.
struct Box {
  Shape begin;
  Shape size;

  int rank() const { return size.rank(); }
  int64_t numel() const { return size.numel(); }
  std::string ToString() const;  // "[0:2, 4:8]"
  friend bool operator==(const Box& a, const Box& b) = default;
};

std::ostream& operator<<(std::ostream& out, const Box& box);

inline Box WholeBox(const Shape& shape) {
  Box box{shape, shape};
  for (int i = 0; i < shape.rank(); ++i) box.begin[i] = 0;
  return box;
}

// The number of elements of `dims`; INVALID_ARGUMENT on a negative one or when the product of
// those that are not zero exceeds int64_t.
StatusOr<int64_t> CheckedNumel(absl::Span<const int64_t> dims);

// INVALID_ARGUMENT unless the box has the rank of the whole and lies inside it.
Status CheckInside(const Box& box, const Shape& whole);

// What two boxes of one rank share; empty (numel() == 0) when they are disjoint.
Box Intersect(const Box& a, const Box& b);

// INVALID_ARGUMENT, naming the place, unless every element of the whole is in exactly one of the
// boxes. None of them may be empty. Sorts by the first dimension, so cuts along it cost n log n.
Status CheckTiles(const Shape& whole, absl::Span<const Box> boxes);

// The copy of a box between two row-major tensors, as runs of elements that are contiguous in both.
class BoxRuns {
 public:
  // A box of `size` that begins at source_begin in a tensor of shape `source`, at dest_begin in
  // `dest`. All have one rank and the box lies inside both.
  BoxRuns(const Shape& source, const Shape& source_begin, const Shape& dest,
          const Shape& dest_begin, const Shape& size);

  int64_t count() const { return count_; }
  int64_t length() const { return length_; }  // Elements, of every run.

  struct Run {
    int64_t source;  // Its first element in either tensor.
    int64_t dest;
  };
  // Ascending in k on both sides.
  Run operator[](int64_t k) const;

 private:
  Shape outer_;  // The dimensions that count runs.
  Shape source_strides_, dest_strides_;
  int64_t source_offset_ = 0, dest_offset_ = 0;
  int64_t count_ = 0, length_ = 0;
};

}  // namespace trireme
