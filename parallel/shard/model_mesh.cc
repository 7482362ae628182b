#include "parallel/shard/model_mesh.h"

#include <algorithm>

namespace trireme {
namespace {

// How many neighbours along an axis can have something in common.
std::vector<int> FactorsOf(int size) {
  std::vector<int> factors;
  for (int k = 2; k <= size; ++k) {
    if (size % k == 0) factors.push_back(k);
  }
  return factors;
}

}  // namespace

StatusOr<std::unique_ptr<ModelMesh>> ModelMesh::Create(Communicator& world, const Mesh& mesh,
                                                       std::pair<int, int> tied_stages) {
  std::unique_ptr<ModelMesh> made(new ModelMesh);
  std::vector<AxisSet> sets = {Axis::kReplica};
  for (const AxisSet set :
       {AxisSet(Axis::kPipeline), AxisSet(Axis::kSequence), AxisSet(Axis::kTensor), kOwnerAxes,
        kLossAxes, kSliceAxes, kReplicaAxes}) {
    const bool known = std::find(sets.begin(), sets.end(), set) != sets.end();
    if (mesh.size(set) > 1 && !known) sets.push_back(set);
  }
  std::vector<AxisFactors> factors;
  for (const Axis axis : {Axis::kSequence, Axis::kTensor}) {
    for (const int size : FactorsOf(mesh.size(axis))) factors.push_back({axis, size});
  }
  ASSIGN_OR_RETURN(made->groups_, MeshGroups::Create(world, mesh, sets, factors));

  const auto [first, last] = tied_stages;
  if (first != last) {
    const int rank = world.rank();
    const int stage = mesh.Coordinate(rank, Axis::kPipeline);
    const bool has_part = stage == first || stage == last;
    const int color = mesh.GroupOver(Axis::kPipeline, rank)[0];
    ASSIGN_OR_RETURN(made->tied_, world.Split(has_part ? color : -1, rank, "pipeline.tied"));
  }
  return made;
}

Communicator* ModelMesh::Over(AxisSet axes) const {
  return mesh().size(axes) == 1 ? nullptr : &groups_->over(axes);
}

ReplicaGroups ModelMesh::inside() const {
  ReplicaGroups inside;
  inside.owners = Over(kOwnerAxes);
  inside.tensor = Over(Axis::kTensor);
  inside.tied = tied_.get();
  inside.losses = Over(kLossAxes);
  inside.whole = Over(kReplicaAxes);
  for (const int copies : FactorsOf(mesh().size(Axis::kTensor))) {
    inside.copies[copies] = &groups_->inner(Axis::kTensor, copies);
  }
  return inside;
}

TensorAxis ModelMesh::tensor(bool sharded_stream) const {
  return {Coordinate(Axis::kTensor), mesh().size(Axis::kTensor), Over(Axis::kTensor),
          sharded_stream};
}

}  // namespace trireme
