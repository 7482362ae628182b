// Mesh: the ranks of the world as a box of five axes, replica outermost, tensor innermost
// (neighbours in the tensor axis are neighbours in the world). Arithmetic only: nothing here
// communicates.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/module/axis.h"

namespace trireme {

// One number for each axis, in the order of Axis.
using AxisArray = std::array<int, kNumAxes>;

class Mesh {
 public:
  // One size may be 0: the rest of the world. INVALID_ARGUMENT when the sizes do not fit:
  // "mesh pipeline=2 tensor=4 needs 8 ranks, world has 4".
  static StatusOr<Mesh> Create(const AxisArray& sizes, int world_size);

  int world_size() const { return size(AxisSet::All()); }
  int size(Axis axis) const { return sizes_[static_cast<int>(axis)]; }
  int size(AxisSet axes) const;

  AxisArray CoordinatesOf(int rank) const;
  int RankOf(const AxisArray& coordinates) const;
  int Coordinate(int rank, Axis axis) const { return CoordinatesOf(rank)[static_cast<int>(axis)]; }
  // The position of `rank` in GroupOver(axes, rank).
  int IndexIn(AxisSet axes, int rank) const;

  // The ranks that differ from `rank` along `axes` only, `rank` included, in order.
  std::vector<int> GroupOver(AxisSet axes, int rank) const;

  // An axis of size n as a box of n / k (outer) times k (inner): the ranks of GroupOver(axis, rank)
  // with the same coordinate / k, and those with the same coordinate % k. `inner_size` = k divides
  // n.
  std::vector<int> InnerGroup(Axis axis, int inner_size, int rank) const;
  std::vector<int> OuterGroup(Axis axis, int inner_size, int rank) const;

  // "replica=2 tensor=4": the axes longer than one; "replica=1" when there are none.
  std::string ToString() const;

 private:
  explicit Mesh(const AxisArray& sizes) : sizes_(sizes) {}

  AxisArray sizes_;
};

}  // namespace trireme
