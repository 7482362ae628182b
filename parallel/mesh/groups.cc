#include "parallel/mesh/groups.h"

#include <vector>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"

namespace trireme {
namespace {

// Groups are told apart by their first rank.
StatusOr<std::unique_ptr<Communicator>> SplitOff(Communicator& world, const std::vector<int>& group,
                                                 absl::string_view name) {
  return world.Split(group[0], world.rank(), name);
}

}  // namespace

StatusOr<std::unique_ptr<MeshGroups>> MeshGroups::Create(Communicator& world, const Mesh& mesh,
                                                         absl::Span<const AxisSet> sets,
                                                         absl::Span<const AxisFactors> factors) {
  CHECK_EQ(world.size(), mesh.world_size()) << "mesh " << mesh.ToString();
  const int rank = world.rank();
  std::unique_ptr<MeshGroups> groups(new MeshGroups(mesh, rank));
  for (const AxisSet set : sets) {
    ASSIGN_OR_RETURN(groups->over_[set],
                     SplitOff(world, mesh.GroupOver(set, rank), set.ToString()));
  }
  for (const auto& [axis, size] : factors) {
    Factor& factor = groups->factors_[{axis, size}];
    ASSIGN_OR_RETURN(factor.inner, SplitOff(world, mesh.InnerGroup(axis, size, rank),
                                            absl::StrCat(AxisName(axis), ".inner", size)));
    ASSIGN_OR_RETURN(factor.outer, SplitOff(world, mesh.OuterGroup(axis, size, rank),
                                            absl::StrCat(AxisName(axis), ".outer", size)));
  }
  return groups;
}

Communicator& MeshGroups::over(AxisSet axes) const {
  const auto it = over_.find(axes);
  CHECK(it != over_.end()) << "the group over " << axes.ToString() << " was not declared";
  return *it->second;
}

const MeshGroups::Factor& MeshGroups::factor(Axis axis, int inner_size) const {
  const auto it = factors_.find({axis, inner_size});
  CHECK(it != factors_.end()) << "the factor " << inner_size << " of " << AxisName(axis)
                              << " was not declared";
  return it->second;
}

Communicator& MeshGroups::inner(Axis axis, int inner_size) const {
  return *factor(axis, inner_size).inner;
}

Communicator& MeshGroups::outer(Axis axis, int inner_size) const {
  return *factor(axis, inner_size).outer;
}

}  // namespace trireme
