// A declaration that the ranks do not keep is an error that names the parameter and what was found.
#include "parallel/shard/declaration_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/base/log.h"
#include "core/module/gradient_buffers.h"
#include "core/ops/devices.h"
#include "parallel/comm/local.h"
#include "parallel/layers/tensor_axis.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using Edit = std::function<void(int rank, ParameterSet& parameters)>;

constexpr int kRanks = 4;

void Declare(int rank, ParameterSet& parameters) {
  const TensorAxis axis = {rank, kRanks, nullptr, /*sharded_stream=*/true};
  const Scope root(parameters);
  axis.DeclareRows(root, "rows", {11, 2}, Init::Normal(1));
  axis.DeclareColumns(root, "columns", {3, 12}, Init::Normal(1), 3);
  axis.DeclareCopiedRows(root, "copied", {6, 2}, Init::Normal(1), 2);
  axis.DeclareOnStream(root, "partial", {5}, Init::Constant(1));
  root.Declare("whole", {5}, Init::Constant(1));
}

std::string CutError(const Edit& edit) {
  std::vector<std::unique_ptr<ParameterSet>> sets;
  std::vector<const ParameterSet*> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    sets.push_back(std::make_unique<ParameterSet>());
    Declare(rank, *sets.back());
    edit(rank, *sets.back());
    ranks.push_back(sets.back().get());
  }
  return CheckCut(ranks).ToString();
}

TEST(DeclarationChecksTest, PartsTileTheWhole) {
  EXPECT_EQ(CutError([](int, ParameterSet&) {}), "OK");
  const auto edit = [](const char* path, const std::function<void(int, ParamSpec&)>& change) {
    return CutError([=](int rank, ParameterSet& set) { change(rank, set.Find(path)->spec); });
  };
  EXPECT_THAT(
      edit("rows", [](int, ParamSpec& spec) { spec.split = {}; }),
      HasSubstr(
          "INTERNAL: parameter 'rows': is split by no axis, yet this rank has [0:3, 0:2] of it"));
  EXPECT_THAT(edit("whole", [](int, ParamSpec& spec) { spec.split = Axis::kTensor; }),
              HasSubstr("INTERNAL: whole: declared in parts that do not tile [5]"));
  EXPECT_THAT(edit("copied", [](int, ParamSpec& spec) { spec.copies = 1; }),
              HasSubstr("copied: declared in parts that do not tile [6, 2]"));
  EXPECT_THAT(edit("rows", [](int, ParamSpec& spec) { spec.copies = 2; }),
              HasSubstr("rows: declared to be the same on tensor ranks 0 and 1, which have [0:3, "
                        "0:2] and [3:6, 0:2]"));
  EXPECT_THAT(edit("copied", [](int, ParamSpec& spec) { spec.copies = 3; }),
              HasSubstr("copied: declared to have copies=3 on tensor=4"));
  EXPECT_THAT(
      edit("columns",
           [](int rank, ParamSpec& spec) { spec.local.begin[1] = rank == 1 ? 0 : 3 * rank; }),
      HasSubstr("columns: declared in parts that do not tile [3, 12]"));
  EXPECT_THAT(edit("whole",
                   [](int rank, ParamSpec& spec) {
                     if (rank == 2) spec.partial_grad = Axis::kTensor;
                   }),
              HasSubstr("tensor ranks 0 and 2 declare 'whole [5] split=none partial_grad=none "
                        "copies=1' and 'whole "
                        "[5] split=none partial_grad=tensor copies=1'"));
  EXPECT_THAT(CutError([](int rank, ParameterSet& set) {
                if (rank == 3) Scope(set).Declare("more", {1}, Init::Constant(0));
              }),
              HasSubstr("tensor ranks declare 5 and 6 parameters"));
}

// What ranks find whose gradients of the last two parameters, and of the copies, are these.
std::string ContributionError(const std::vector<double>& partial, const std::vector<double>& whole,
                              const std::vector<double>& copied) {
  std::vector<std::string> errors(kRanks);
  EXPECT_TRUE(
      RunOnRanks(kRanks, {}, [&](Communicator& world) -> Status {
        const auto device = MakeCpuDevice();
        ParameterSet parameters;
        Declare(world.rank(), parameters);
        RETURN_IF_ERROR(parameters.Materialize(*device, DType::kF32, 1));
        const auto& all = parameters.parameters();
        UnitTensors gradients(std::vector<int>(all.size(), 0), OwnedShapes(parameters), *device,
                              DType::kF32, MemoryKind::kGradients, "gradients");
        for (size_t i = 0; i < all.size(); ++i) gradients.of(i).Fill(0);
        gradients.of(2).Fill(copied[world.rank()]);
        gradients.of(3).Fill(partial[world.rank()]);
        gradients.of(4).Fill(whole[world.rank()]);
        errors[world.rank()] =
            CheckContributions(parameters, {0, 1, 2, 3, 4}, gradients, *device, world).ToString();
        return absl::OkStatus();
      }).ok());
  for (const std::string& error : errors) EXPECT_EQ(error, errors[0]);
  return errors[0];
}

TEST(DeclarationChecksTest, ContributionsAreEqualOrAddUp) {
  const std::vector<double> zero(kRanks, 0.0), same(kRanks, 2.5), different = {1, 2, 2, 4};
  EXPECT_EQ(ContributionError(different, same, different), "OK");
  EXPECT_EQ(ContributionError(zero, zero, zero), "OK");
  EXPECT_EQ(ContributionError({NAN, NAN, NAN, NAN}, {NAN, 1, 2, 3}, {NAN, NAN, 1, 2}), "OK");
  EXPECT_EQ(ContributionError({1, 1, 1, 2}, same, {0, 1, 2, 3}), "OK");
  EXPECT_THAT(
      ContributionError(different, {2, 2, 3, 2}, different),
      HasSubstr(
          "INTERNAL: whole: declared whole on every tensor rank, but ranks 0 and 2 have different "
          "gradients: a reduction is missing, of them (partial_grad) or of what they come from"));
  EXPECT_THAT(ContributionError(same, same, different),
              HasSubstr("INTERNAL: partial: declared partial_grad over the tensor axis, but ranks "
                        "0 to 3 have the "
                        "same gradient: it would be added up 4 times"));
  EXPECT_THAT(ContributionError(different, same, {1, 2, 3, 3}),
              HasSubstr("INTERNAL: copied: declared with copies=2 over the tensor axis, but ranks "
                        "2 to 3 have the "
                        "same gradient: it would be added up 2 times"));
}

}  // namespace
}  // namespace trireme
