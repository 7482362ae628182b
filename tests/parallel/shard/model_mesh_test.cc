// The groups of a model on a mesh: who is in each, and none where there would be nobody else.
#include "parallel/shard/model_mesh.h"

#include <gtest/gtest.h>

#include "parallel/comm/local.h"

namespace trireme {
namespace {

std::vector<int> RanksOf(const Communicator* group) {
  if (group == nullptr) return {};
  return {group->world_ranks().begin(), group->world_ranks().end()};
}

// None when the rank would be alone.
std::vector<int> Over(const Mesh& mesh, AxisSet axes, int rank) {
  return mesh.size(axes) == 1 ? std::vector<int>() : mesh.GroupOver(axes, rank);
}

TEST(ModelMeshTest, GroupsAreThoseOfTheMesh) {
  const AxisArray kMeshes[] = {{1, 1, 1, 1, 1}, {2, 1, 2, 1, 2}, {1, 2, 1, 2, 2}, {1, 1, 2, 2, 1},
                               {3, 1, 1, 1, 1}, {1, 4, 1, 1, 2}, {1, 1, 1, 1, 4}, {1, 2, 2, 1, 1}};
  for (const AxisArray& sizes : kMeshes) {
    int num_ranks = 1;
    for (const int size : sizes) num_ranks *= size;
    const Status status = RunOnRanks(num_ranks, {}, [&](Communicator& world) -> Status {
      const int rank = world.rank();
      ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(sizes, num_ranks));
      const int num_stages = mesh.size(Axis::kPipeline);
      ASSIGN_OR_RETURN(auto made, ModelMesh::Create(world, mesh, {0, num_stages - 1}));
      const ReplicaGroups inside = made->inside();
      EXPECT_EQ(RanksOf(&made->replica()), mesh.GroupOver(Axis::kReplica, rank));
      EXPECT_EQ(RanksOf(inside.owners), Over(mesh, {Axis::kShard, Axis::kSequence}, rank));
      EXPECT_EQ(RanksOf(inside.tensor), Over(mesh, Axis::kTensor, rank));
      EXPECT_EQ(RanksOf(inside.losses),
                Over(mesh, {Axis::kPipeline, Axis::kShard, Axis::kSequence}, rank));
      EXPECT_EQ(RanksOf(inside.whole), Over(mesh, AxisSet::All() - Axis::kReplica, rank));

      const std::vector<int> stages = mesh.GroupOver(Axis::kPipeline, rank);
      const int stage = mesh.Coordinate(rank, Axis::kPipeline);
      const bool ties = num_stages > 1 && (stage == 0 || stage == num_stages - 1);
      EXPECT_EQ(RanksOf(inside.tied),
                ties ? std::vector<int>({stages.front(), stages.back()}) : std::vector<int>());

      const int tensor = mesh.size(Axis::kTensor);
      for (int copies = 2; copies <= tensor; ++copies) {
        EXPECT_EQ(inside.copies.count(copies), tensor % copies == 0 ? 1u : 0u);
        if (tensor % copies != 0) continue;
        EXPECT_EQ(RanksOf(inside.copies.at(copies)), mesh.InnerGroup(Axis::kTensor, copies, rank));
      }

      const Ownership ownership = inside.ownership();
      EXPECT_EQ(ownership.index, mesh.IndexIn({Axis::kShard, Axis::kSequence}, rank));
      EXPECT_EQ(ownership.count, mesh.size({Axis::kShard, Axis::kSequence}));
      EXPECT_EQ(made->share(), mesh.IndexIn({Axis::kReplica, Axis::kShard}, rank));
      EXPECT_EQ(made->num_shares(), mesh.size({Axis::kReplica, Axis::kShard}));
      const TensorAxis axis = made->tensor(true);
      EXPECT_EQ(axis.rank, mesh.Coordinate(rank, Axis::kTensor));
      EXPECT_EQ(axis.size, tensor);
      EXPECT_EQ(RanksOf(axis.group), Over(mesh, Axis::kTensor, rank));
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
  }
}

// Schedules that bring the last stage back to rank 0 tie without an exchange.
TEST(ModelMeshTest, StagesOfOneRankNeedNoTiedGroup) {
  const Status status = RunOnRanks(2, {}, [&](Communicator& world) -> Status {
    ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({1, 2, 1, 1, 1}, 2));
    ASSIGN_OR_RETURN(auto made, ModelMesh::Create(world, mesh, {0, 0}));
    EXPECT_EQ(made->inside().tied, nullptr);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace trireme
