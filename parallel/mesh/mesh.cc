#include "parallel/mesh/mesh.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"

namespace trireme {
namespace {

std::string Describe(const AxisArray& sizes) {
  std::string text;
  for (const Axis axis : kAllAxes) {
    const int size = sizes[static_cast<int>(axis)];
    if (size != 1) absl::StrAppend(&text, text.empty() ? "" : " ", AxisName(axis), "=", size);
  }
  return text.empty() ? "replica=1" : text;
}

}  // namespace

StatusOr<Mesh> Mesh::Create(const AxisArray& sizes, int world_size) {
  CHECK_GT(world_size, 0);
  const auto error = [&](auto&&... what) {
    return absl::InvalidArgumentError(absl::StrCat("mesh ", Describe(sizes), what...));
  };
  if (*std::min_element(sizes.begin(), sizes.end()) < 0) {
    return error(": sizes are at least 1, or 0 for the rest of the world");
  }
  if (std::count(sizes.begin(), sizes.end(), 0) > 1) {
    return error(": only one axis can take the rest of the world");
  }
  int64_t product = 1;
  for (const int size : sizes) {
    if (size > 0) product *= size;
    // Enough to know that it does not fit; five sizes can overflow.
    if (product > INT32_MAX) return error(" needs more than ", INT32_MAX, " ranks");
  }
  AxisArray resolved = sizes;
  const auto rest = std::find(resolved.begin(), resolved.end(), 0);
  if (rest != resolved.end()) {
    if (world_size % product != 0) {
      return error(" needs a multiple of ", product, " ranks, world has ", world_size);
    }
    *rest = static_cast<int>(world_size / product);
  } else if (product != world_size) {
    return error(" needs ", product, product == 1 ? " rank" : " ranks", ", world has ", world_size);
  }
  return Mesh(resolved);
}

int Mesh::size(AxisSet axes) const {
  int product = 1;
  for (const Axis axis : kAllAxes) {
    if (axes.Contains(axis)) product *= size(axis);
  }
  return product;
}

AxisArray Mesh::CoordinatesOf(int rank) const {
  CHECK(rank >= 0 && rank < world_size()) << "rank " << rank << " of mesh " << ToString();
  AxisArray coordinates;
  for (int i = kNumAxes - 1; i >= 0; --i) {
    coordinates[i] = rank % sizes_[i];
    rank /= sizes_[i];
  }
  return coordinates;
}

int Mesh::RankOf(const AxisArray& coordinates) const {
  int rank = 0;
  for (int i = 0; i < kNumAxes; ++i) {
    CHECK(coordinates[i] >= 0 && coordinates[i] < sizes_[i])
        << AxisName(kAllAxes[i]) << "=" << coordinates[i] << " of mesh " << ToString();
    rank = rank * sizes_[i] + coordinates[i];
  }
  return rank;
}

int Mesh::IndexIn(AxisSet axes, int rank) const {
  const AxisArray coordinates = CoordinatesOf(rank);
  int index = 0;
  for (int i = 0; i < kNumAxes; ++i) {
    if (axes.Contains(kAllAxes[i])) index = index * sizes_[i] + coordinates[i];
  }
  return index;
}

std::vector<int> Mesh::GroupOver(AxisSet axes, int rank) const {
  AxisArray coordinates = CoordinatesOf(rank);
  std::vector<int> group(size(axes));
  for (int index = 0; index < static_cast<int>(group.size()); ++index) {
    int rest = index;
    for (int i = kNumAxes - 1; i >= 0; --i) {
      if (!axes.Contains(kAllAxes[i])) continue;
      coordinates[i] = rest % sizes_[i];
      rest /= sizes_[i];
    }
    group[index] = RankOf(coordinates);
  }
  return group;
}

std::vector<int> Mesh::InnerGroup(Axis axis, int inner_size, int rank) const {
  CHECK(inner_size > 0 && size(axis) % inner_size == 0)
      << AxisName(axis) << " of size " << size(axis) << " in factors of " << inner_size;
  const std::vector<int> whole = GroupOver(axis, rank);
  const int begin = Coordinate(rank, axis) / inner_size * inner_size;
  return {whole.begin() + begin, whole.begin() + begin + inner_size};
}

std::vector<int> Mesh::OuterGroup(Axis axis, int inner_size, int rank) const {
  CHECK(inner_size > 0 && size(axis) % inner_size == 0)
      << AxisName(axis) << " of size " << size(axis) << " in factors of " << inner_size;
  const std::vector<int> whole = GroupOver(axis, rank);
  std::vector<int> group;
  for (int i = Coordinate(rank, axis) % inner_size; i < size(axis); i += inner_size) {
    group.push_back(whole[i]);
  }
  return group;
}

std::string Mesh::ToString() const { return Describe(sizes_); }

}  // namespace trireme
