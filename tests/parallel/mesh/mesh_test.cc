#include "parallel/mesh/mesh.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

namespace trireme {
namespace {

// Every way to write `world_size` as a product of five sizes.
std::vector<AxisArray> Factorizations(int world_size) {
  std::vector<AxisArray> result;
  AxisArray sizes = {};
  const std::function<void(int, int)> choose = [&](int axis, int rest) {
    if (axis == kNumAxes - 1) {
      sizes[axis] = rest;
      result.push_back(sizes);
      return;
    }
    for (int size = 1; size <= rest; ++size) {
      if (rest % size != 0) continue;
      sizes[axis] = size;
      choose(axis + 1, rest / size);
    }
  };
  choose(0, world_size);
  return result;
}

void ForEachMesh(const std::function<void(const Mesh&)>& fn) {
  int count = 0;
  for (int world_size = 1; world_size <= 16; ++world_size) {
    for (const AxisArray& sizes : Factorizations(world_size)) {
      const StatusOr<Mesh> mesh = Mesh::Create(sizes, world_size);
      ASSERT_TRUE(mesh.ok()) << mesh.status();
      fn(*mesh);
      ++count;
    }
  }
  // The sum over n <= 16 of the products over prime powers p^k of n of (k + 4 choose 4).
  EXPECT_EQ(count, 341);
}

// The groups that `group_of` gives to all ranks partition the world into sorted sets of `size`.
void ExpectPartition(const Mesh& mesh, int size,
                     const std::function<std::vector<int>(int)>& group_of) {
  for (int rank = 0; rank < mesh.world_size(); ++rank) {
    const std::vector<int> group = group_of(rank);
    ASSERT_EQ(static_cast<int>(group.size()), size) << mesh.ToString();
    ASSERT_TRUE(std::is_sorted(group.begin(), group.end()));
    ASSERT_EQ(std::count(group.begin(), group.end(), rank), 1);
    for (const int other : group) ASSERT_EQ(group_of(other), group) << mesh.ToString();
  }
}

TEST(MeshTest, RanksAndCoordinatesAreInverse) {
  ForEachMesh([](const Mesh& mesh) {
    std::set<AxisArray> seen;
    for (int rank = 0; rank < mesh.world_size(); ++rank) {
      const AxisArray coordinates = mesh.CoordinatesOf(rank);
      ASSERT_EQ(mesh.RankOf(coordinates), rank);
      // Ranks run through the box in row-major order: replica outermost, tensor innermost.
      ASSERT_TRUE(seen.empty() || *seen.rbegin() < coordinates);
      seen.insert(coordinates);
    }
  });
}

TEST(MeshTest, GroupsOverEverySetPartitionTheWorld) {
  ForEachMesh([](const Mesh& mesh) {
    for (unsigned bits = 0; bits < 1u << kNumAxes; ++bits) {
      const AxisSet set = AxisSet::FromBits(bits);
      const AxisSet others = AxisSet::All() - set;
      ExpectPartition(mesh, mesh.size(set), [&](int rank) { return mesh.GroupOver(set, rank); });
      for (int rank = 0; rank < mesh.world_size(); ++rank) {
        const std::vector<int> group = mesh.GroupOver(set, rank);
        ASSERT_EQ(group[mesh.IndexIn(set, rank)], rank);
        for (const int other : group) {
          for (const Axis axis : kAllAxes) {
            if (set.Contains(axis)) continue;
            ASSERT_EQ(mesh.Coordinate(other, axis), mesh.Coordinate(rank, axis));
          }
        }
        const std::vector<int> across = mesh.GroupOver(others, rank);
        std::vector<int> both;
        std::set_intersection(group.begin(), group.end(), across.begin(), across.end(),
                              std::back_inserter(both));
        ASSERT_EQ(both, std::vector<int>{rank});
      }
    }
  });
}

TEST(MeshTest, FactorsOfAnAxisTileIt) {
  ForEachMesh([](const Mesh& mesh) {
    for (const Axis axis : kAllAxes) {
      const int size = mesh.size(axis);
      for (int k = 1; k <= size; ++k) {
        if (size % k != 0) continue;
        ExpectPartition(mesh, k, [&](int rank) { return mesh.InnerGroup(axis, k, rank); });
        ExpectPartition(mesh, size / k, [&](int rank) { return mesh.OuterGroup(axis, k, rank); });
        for (int rank = 0; rank < mesh.world_size(); ++rank) {
          std::set<int> product;
          for (const int outer : mesh.OuterGroup(axis, k, rank)) {
            for (const int inner : mesh.InnerGroup(axis, k, outer)) product.insert(inner);
          }
          const std::vector<int> whole = mesh.GroupOver(axis, rank);
          ASSERT_EQ(product, std::set<int>(whole.begin(), whole.end()));
          // Inner neighbours are neighbours along the axis.
          const std::vector<int> inner = mesh.InnerGroup(axis, k, rank);
          ASSERT_EQ(mesh.Coordinate(inner.back(), axis) - mesh.Coordinate(inner.front(), axis),
                    k - 1);
        }
      }
    }
  });
}

TEST(MeshTest, NeighboursOfTheInnermostAxisAreNeighboursInTheWorld) {
  const Mesh mesh = *Mesh::Create({2, 1, 3, 1, 2}, 12);
  EXPECT_EQ(mesh.GroupOver(Axis::kTensor, 5), (std::vector<int>{4, 5}));
  EXPECT_EQ(mesh.GroupOver(Axis::kShard, 5), (std::vector<int>{1, 3, 5}));
  EXPECT_EQ(mesh.GroupOver(Axis::kReplica, 5), (std::vector<int>{5, 11}));
  EXPECT_EQ(mesh.GroupOver({Axis::kShard, Axis::kTensor}, 5), (std::vector<int>{0, 1, 2, 3, 4, 5}));
}

TEST(MeshTest, OneAxisTakesTheRestOfTheWorld) {
  const Mesh mesh = *Mesh::Create({0, 2, 1, 1, 4}, 24);
  EXPECT_EQ(mesh.size(Axis::kReplica), 3);
  EXPECT_EQ(mesh.ToString(), "replica=3 pipeline=2 tensor=4");
  EXPECT_EQ(Mesh::Create({0, 1, 1, 1, 1}, 1)->ToString(), "replica=1");
}

TEST(MeshTest, SizesThatDoNotFitAreNamed) {
  const auto message = [](const AxisArray& sizes, int world_size) {
    const Status status = Mesh::Create(sizes, world_size).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(message({1, 2, 1, 1, 4}, 4), "mesh pipeline=2 tensor=4 needs 8 ranks, world has 4");
  EXPECT_EQ(message({1, 1, 1, 1, 1}, 4), "mesh replica=1 needs 1 rank, world has 4");
  EXPECT_EQ(message({0, 2, 1, 1, 4}, 12),
            "mesh replica=0 pipeline=2 tensor=4 needs a multiple of 8 ranks, world has 12");
  EXPECT_EQ(message({0, 2, 1, 1, 4}, 4),
            "mesh replica=0 pipeline=2 tensor=4 needs a multiple of 8 ranks, world has 4");
  EXPECT_EQ(message({0, 1, 0, 1, 1}, 4),
            "mesh replica=0 shard=0: only one axis can take the rest of the world");
  EXPECT_EQ(message({1, 1, 1, 1, -1}, 4),
            "mesh tensor=-1: sizes are at least 1, or 0 for the rest of the world");
  EXPECT_EQ(
      message({65536, 65536, 65536, 65536, 65536}, 4),
      "mesh replica=65536 pipeline=65536 shard=65536 sequence=65536 tensor=65536 needs more than "
      "2147483647 ranks");
}

TEST(AxisSetTest, Algebra) {
  const AxisSet set = {Axis::kShard, Axis::kSequence};
  EXPECT_EQ(set.ToString(), "shard+sequence");
  EXPECT_EQ(AxisSet().ToString(), "none");
  EXPECT_TRUE(set.Contains(Axis::kShard));
  EXPECT_FALSE(set.Contains({Axis::kShard, Axis::kTensor}));
  EXPECT_TRUE(set.Contains(AxisSet()));
  EXPECT_EQ(set - Axis::kShard, AxisSet(Axis::kSequence));
  EXPECT_EQ((AxisSet::All() - set).ToString(), "replica+pipeline+tensor");
  EXPECT_EQ(set & AxisSet(Axis::kTensor), AxisSet());
  EXPECT_EQ(set | Axis::kTensor, (AxisSet{Axis::kTensor, Axis::kSequence, Axis::kShard}));
}

}  // namespace
}  // namespace trireme
