#include "parallel/mesh/groups.h"

#include <gtest/gtest.h>

#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using testing::OnRanks;

class MeshGroupsTest : public ::testing::TestWithParam<testing::TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, MeshGroupsTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

// The ranks of the communicator as it numbers them, by a message from each.
std::vector<int> GatheredRanks(Device& device, Communicator& group, int world_rank) {
  const Tensor ranks = Tensor::Zeros(device, {group.size()}, DType::kI32);
  const Tensor own = ranks.View1D(group.rank(), 1);
  own.Fill(world_rank);
  group.AllGather(own, ranks, {"ranks"})->Join(device.compute());
  const std::vector<double> values = ranks.ToVector();
  return {values.begin(), values.end()};
}

TEST_P(MeshGroupsTest, CommunicatorsAreTheGroupsOfTheMesh) {
  const int size = GetParam().size;
  const int tensor = size % 4 == 0 ? 4 : size;
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({0, 1, 1, 1, tensor}, size));
    const std::vector<AxisSet> sets = {
        AxisSet(), Axis::kReplica, Axis::kTensor, {Axis::kReplica, Axis::kTensor}};
    std::vector<AxisFactors> factors;
    for (int k = 1; k <= tensor; ++k) {
      if (tensor % k == 0) factors.push_back({Axis::kTensor, k});
    }
    ASSIGN_OR_RETURN(const auto groups, MeshGroups::Create(world, mesh, sets, factors));
    const int rank = world.rank();
    for (const AxisSet set : sets) {
      EXPECT_EQ(GatheredRanks(device, groups->over(set), rank), mesh.GroupOver(set, rank));
      EXPECT_EQ(groups->over(set).axis(), set.ToString());
    }
    for (const auto& [axis, k] : factors) {
      EXPECT_EQ(GatheredRanks(device, groups->inner(axis, k), rank),
                mesh.InnerGroup(axis, k, rank));
      EXPECT_EQ(GatheredRanks(device, groups->outer(axis, k), rank),
                mesh.OuterGroup(axis, k, rank));
    }
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
