// What the tests of layers share: the parts of a whole that ranks have, and values that are nearly
// equal.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/tensor/box.h"
#include "parallel/layers/tensor_axis.h"
#include "tests/testing/gradient_check.h"
#include "tests/testing/ranks.h"

namespace trireme::testing {

inline Tensor PartOf(const Tensor& whole, const Box& box) {
  int64_t offset = 0;
  for (int i = 0; i < whole.rank(); ++i) offset += box.begin[i] * whole.strides()[i];
  return whole.Detach().AsStrided(box.size, whole.strides(), offset);
}

// The rows of the stream that this rank has.
inline Tensor StreamPart(const TensorAxis& axis, const Tensor& whole) {
  return axis.sharded_stream ? RowsOf(whole, axis.group) : whole.Detach();
}

// Relative to the largest value expected.
inline void ExpectNear(const Tensor& actual, const Tensor& expected, double tolerance,
                       const char* what) {
  ASSERT_EQ(actual.shape(), expected.shape()) << what;
  const std::vector<double> a = actual.ToVector(), e = expected.ToVector();
  double largest = 0;
  for (const double value : e) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(a[i], e[i], tolerance * largest) << what << " " << i;
}

// Fn(device, axis) on every rank of a world, with the stream whole and with the stream sharded.
template <typename Fn>
void OnStreams(const TestWorld& world, Fn fn) {
  for (const bool sharded : {false, true}) {
    SCOPED_TRACE(sharded ? "sharded stream" : "whole stream");
    OnRanks(world, {}, [&](Device& device, Communicator& group) -> Status {
      return fn(device, TensorAxis{group.rank(), group.size(), &group, sharded});
    });
  }
}

}  // namespace trireme::testing
