// Whatever the mesh, the stage and the buckets, the gradient of an owned slice is the sum of the
// contributions that its ParamSpec says belong together: of integers, so that sums are exact.
#include "parallel/shard/replica_gradients.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/module/scope.h"
#include "core/ops/devices.h"
#include "parallel/comm/local.h"
#include "parallel/shard/model_mesh.h"

namespace trireme {
namespace {

constexpr int kUnits = 4, kItems = 3;

// Rows that divide by nothing, fewer rows than ranks, a vector, every kind of reduction; units 0
// and 3 are tied.
void Declare(const TensorAxis& axis, ParameterSet& parameters) {
  const Scope root(parameters);
  Parameter* const tied = axis.DeclareRows(root, "tied", {11, 2}, Init::Normal(1));
  axis.DeclareColumns(root.InUnit(1), "columns", {5, 9}, Init::Normal(1));
  axis.DeclareCopiedRows(root.InUnit(1), "copies", {6, 2}, Init::Normal(1),
                         axis.size % 2 == 0 ? 2 : 1);
  axis.DeclareOnColumns(root.InUnit(2), "on_columns", {7}, Init::Constant(1));
  axis.DeclareOnStream(root.InUnit(3), "on_stream", {2, 3}, Init::Constant(1));
  root.InUnit(3).Declare("whole", {1, 4}, Init::Constant(1));
  root.InUnit(3).Share(tied);
}

int StageOf(int unit, int num_stages) { return unit * num_stages / kUnits; }

// What one micro-batch of a rank adds to an element of the whole, through one unit. Nothing, here
// and there.
bool Touches(int rank, int item, int unit) { return (rank + item + unit) % 4 != 3; }
double Contribution(int rank, int item, int unit, int64_t element) {
  return Touches(rank, item, unit) ? 1 + rank * 7 + item * 5 + unit * 3 + element % 11 : 0;
}

std::vector<int64_t> ElementsOf(const ParamSpec& spec, const Box& box) {
  const int64_t width = spec.global.numel() / spec.global[0];
  std::vector<int64_t> elements;
  for (int64_t i = 0; i < box.size[0]; ++i) {
    for (int64_t j = 0; j < box.size.numel() / std::max<int64_t>(1, box.size[0]); ++j) {
      const int64_t column = j + (box.size.rank() > 1 ? box.begin[1] : 0);
      elements.push_back((box.begin[0] + i) * width + column);
    }
  }
  return elements;
}

// The rank whose contribution this one makes: tensor ranks that have a parameter whole, and whose
// gradients do not add up, have the same one.
int Giver(const ParamSpec& spec, const Mesh& mesh, int rank) {
  const bool alike = !(spec.split | spec.partial_grad).Contains(Axis::kTensor);
  return alike ? rank - mesh.Coordinate(rank, Axis::kTensor) : rank;
}

// Whether the gradients of two ranks of a replica are parts of one sum.
bool AddUp(const ParamSpec& spec, const Mesh& mesh, int a, int b) {
  const int ta = mesh.Coordinate(a, Axis::kTensor), tb = mesh.Coordinate(b, Axis::kTensor);
  if (mesh.Coordinate(a, Axis::kReplica) != mesh.Coordinate(b, Axis::kReplica)) return false;
  return ta == tb || spec.partial_grad.Contains(Axis::kTensor) ||
         (spec.split.Contains(Axis::kTensor) && ta / spec.copies == tb / spec.copies);
}

std::vector<double> Expected(const Parameter& parameter, const Mesh& mesh, int rank,
                             int num_items) {
  std::vector<double> sums;
  const int num_stages = mesh.size(Axis::kPipeline);
  for (const int64_t element : ElementsOf(parameter.spec, parameter.owned_box)) {
    double sum = 0;
    for (int other = 0; other < mesh.world_size(); ++other) {
      if (!AddUp(parameter.spec, mesh, rank, other)) continue;
      for (const int unit : parameter.spec.units) {
        if (StageOf(unit, num_stages) != mesh.Coordinate(other, Axis::kPipeline)) continue;
        const int giver = Giver(parameter.spec, mesh, other);
        for (int item = 0; item < num_items; ++item)
          sum += Contribution(giver, item, unit, element);
      }
    }
    sums.push_back(sum);
  }
  return sums;
}

struct Case {
  AxisArray sizes;
  ReplicaGradientOptions options;
  int num_items;
};

Status RunCase(const Case& c, Communicator& world) {
  auto device = MakeCpuDevice();
  ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(c.sizes, world.size()));
  const int num_stages = mesh.size(Axis::kPipeline);
  ASSIGN_OR_RETURN(auto model_mesh, ModelMesh::Create(world, mesh, {0, num_stages - 1}));
  ParameterSet parameters;
  Declare(model_mesh->tensor(/*sharded_stream=*/true), parameters);
  const int stage = mesh.Coordinate(world.rank(), Axis::kPipeline);
  parameters.KeepUnits([&](int unit) { return StageOf(unit, num_stages) == stage; });
  const ReplicaGroups groups = model_mesh->inside();
  RETURN_IF_ERROR(parameters.Materialize(*device, DType::kF64, 1, groups.ownership()));
  ReplicaGradients gradients(parameters, *device, groups, c.options);
  // The second job finds what the first left behind.
  for (int job = 0; job < 2; ++job) {
    gradients.Reset();
    for (int item = 0; item < c.num_items; ++item) {
      for (int unit = kUnits - 1; unit >= 0; --unit) {
        if (StageOf(unit, num_stages) != stage) continue;
        for (const auto& parameter : parameters.parameters()) {
          const auto& units = parameter->units;
          if (std::find(units.begin(), units.end(), unit) == units.end()) continue;
          const int giver = Giver(parameter->spec, mesh, world.rank());
          if (!Touches(giver, item, unit)) continue;
          std::vector<double> values;
          for (const int64_t element : ElementsOf(parameter->spec, parameter->spec.local)) {
            values.push_back(Contribution(giver, item, unit, element));
          }
          AddToSink(gradients.sink(), parameter->working,
                    Tensor::FromVector(*device, parameter->spec.local.size, values, DType::kF64));
        }
        RETURN_IF_ERROR(gradients.UnitDone(unit, item + 1 == c.num_items));
      }
    }
    RETURN_IF_ERROR(gradients.Finish());
    EXPECT_EQ(gradients.num_complete(), gradients.num_buckets());
    for (size_t i = 0; i < parameters.parameters().size(); ++i) {
      const Parameter& parameter = *parameters.parameters()[i];
      EXPECT_EQ(gradients.owned().of(static_cast<int>(i)).ToVector(),
                Expected(parameter, mesh, world.rank(), c.num_items))
          << parameter.spec.path << " on rank " << world.rank() << ", job " << job;
    }
  }
  return absl::OkStatus();
}

// replica, pipeline, shard, sequence, tensor
const AxisArray kMeshes[] = {
    {1, 1, 1, 1, 1}, {1, 1, 2, 1, 1}, {1, 1, 3, 1, 1}, {1, 1, 4, 1, 1},
    {1, 1, 2, 2, 1}, {1, 1, 1, 3, 1}, {1, 1, 1, 1, 2}, {1, 1, 1, 1, 4},
    {1, 1, 2, 1, 2}, {1, 1, 1, 2, 2}, {1, 2, 1, 1, 1}, {1, 2, 2, 1, 1},
    {1, 2, 1, 1, 2}, {1, 4, 1, 1, 1}, {2, 1, 2, 1, 1}, {1, 2, 2, 1, 2},
};

TEST(ReplicaGradientsTest, AreTheSumsThatTheSpecsSay) {
  for (const AxisArray& sizes : kMeshes) {
    int num_ranks = 1;
    for (const int size : sizes) num_ranks *= size;
    for (const int zero_stage : {1, 2, 3}) {
      for (const int64_t bucket_bytes : {1, 150, 1 << 20}) {
        for (const int num_items : {1, kItems}) {
          const Case c = {sizes, {bucket_bytes, zero_stage}, num_items};
          SCOPED_TRACE(absl::StrCat("mesh ", sizes[0], sizes[1], sizes[2], sizes[3], sizes[4],
                                    " stage ", zero_stage, " bucket ", bucket_bytes, " items ",
                                    num_items));
          const Status status =
              RunOnRanks(num_ranks, {}, [&](Communicator& world) { return RunCase(c, world); });
          ASSERT_TRUE(status.ok()) << status;
        }
      }
    }
  }
}

// A rank whose share of the batch is empty never says that a unit is done.
TEST(ReplicaGradientsTest, ARankWithoutMicroBatchesTakesPart) {
  for (const int zero_stage : {1, 2, 3}) {
    const Status status = RunOnRanks(3, {}, [&](Communicator& world) -> Status {
      auto device = MakeCpuDevice();
      ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({1, 1, 3, 1, 1}, 3));
      ASSIGN_OR_RETURN(auto model_mesh, ModelMesh::Create(world, mesh, {0, 0}));
      ParameterSet parameters;
      Scope(parameters).Declare("a", {7, 2}, Init::Normal(1));
      const ReplicaGroups groups = model_mesh->inside();
      RETURN_IF_ERROR(parameters.Materialize(*device, DType::kF64, 1, groups.ownership()));
      ReplicaGradients gradients(parameters, *device, groups, {1 << 20, zero_stage});
      for (int job = 0; job < 2; ++job) {
        gradients.Reset();
        if (world.rank() != 2) {
          gradients.sink().Open(parameters.parameters()[0]->working).buffer.Fill(1 + world.rank());
          RETURN_IF_ERROR(gradients.UnitDone(0, true));
        }
        RETURN_IF_ERROR(gradients.Finish());
        for (const double value : gradients.owned().All().ToVector()) EXPECT_EQ(value, 3);
      }
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << "stage " << zero_stage << ": " << status;
  }
}

}  // namespace
}  // namespace trireme
