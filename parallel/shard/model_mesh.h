// ModelMesh: the communicators of one rank that training a model on a mesh needs, all made up
// front.
#pragma once

#include <memory>
#include <vector>

#include "parallel/layers/tensor_axis.h"
#include "parallel/mesh/groups.h"
#include "parallel/shard/replica_groups.h"

namespace trireme {

// Those whose ranks share the ownership of parameters, have parts of the loss of a replica, cut the
// parameters of a stage among them, make up a replica.
inline constexpr AxisSet kOwnerAxes = {Axis::kShard, Axis::kSequence};
inline constexpr AxisSet kLossAxes = {Axis::kPipeline, Axis::kShard, Axis::kSequence};
inline constexpr AxisSet kSliceAxes = {Axis::kShard, Axis::kSequence, Axis::kTensor};
inline constexpr AxisSet kReplicaAxes = {Axis::kPipeline, Axis::kShard, Axis::kSequence,
                                         Axis::kTensor};

class ModelMesh {
 public:
  // A collective over `world`, whose size is the mesh's. tied_stages: the pipeline coordinates of
  // the ranks that have the first and the last stage.
  static StatusOr<std::unique_ptr<ModelMesh>> Create(Communicator& world, const Mesh& mesh,
                                                     std::pair<int, int> tied_stages);

  const Mesh& mesh() const { return groups_->mesh(); }
  const MeshGroups& groups() const { return *groups_; }
  int Coordinate(Axis axis) const { return mesh().Coordinate(groups_->world_rank(), axis); }

  Communicator& replica() const { return groups_->over(Axis::kReplica); }
  // nullptr when the axes are of size one.
  Communicator* Over(AxisSet axes) const;
  ReplicaGroups inside() const;
  TensorAxis tensor(bool sharded_stream) const;

  // Of the ranks that take different samples: replica and shard.
  int share() const {
    return mesh().IndexIn({Axis::kReplica, Axis::kShard}, groups_->world_rank());
  }
  int num_shares() const { return mesh().size({Axis::kReplica, Axis::kShard}); }

 private:
  std::unique_ptr<MeshGroups> groups_;
  std::unique_ptr<Communicator> tied_;
};

}  // namespace trireme
