// The communicators of one rank along the axes of a mesh, all made up front: every rank makes the
// same ones in the same order.
#pragma once

#include <map>
#include <memory>
#include <utility>

#include "absl/types/span.h"

#include "core/base/status.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh/mesh.h"

namespace trireme {

// An axis as outer x inner, see Mesh::InnerGroup.
struct AxisFactors {
  Axis axis;
  int inner_size;
};

class MeshGroups {
 public:
  // A collective over `world`, whose size is the mesh's. The groups may outlive it.
  static StatusOr<std::unique_ptr<MeshGroups>> Create(Communicator& world, const Mesh& mesh,
                                                      absl::Span<const AxisSet> sets,
                                                      absl::Span<const AxisFactors> factors = {});

  const Mesh& mesh() const { return mesh_; }
  int world_rank() const { return world_rank_; }

  // Ranks are numbered as in Mesh::GroupOver. CHECKs that the group was declared.
  Communicator& over(AxisSet axes) const;
  Communicator& inner(Axis axis, int inner_size) const;
  Communicator& outer(Axis axis, int inner_size) const;

 private:
  struct Factor {
    std::unique_ptr<Communicator> inner, outer;
  };

  MeshGroups(const Mesh& mesh, int world_rank) : mesh_(mesh), world_rank_(world_rank) {}
  const Factor& factor(Axis axis, int inner_size) const;

  const Mesh mesh_;
  const int world_rank_;
  std::map<AxisSet, std::unique_ptr<Communicator>> over_;
  std::map<std::pair<Axis, int>, Factor> factors_;
};

}  // namespace trireme
