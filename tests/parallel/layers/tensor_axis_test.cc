// What ranks of a tensor axis declare: boxes that tile the whole, and the reductions that follow
// from them.
#include "parallel/layers/tensor_axis.h"

#include <gtest/gtest.h>

#include "core/base/share.h"
#include "tests/testing/batches.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using DeclareFn = std::function<Parameter*(const TensorAxis& axis, const Scope& scope)>;

// Of each rank of an axis, which never communicate here.
std::vector<ParamSpec> SpecsOf(int size, bool sharded_stream, const DeclareFn& declare) {
  std::vector<ParamSpec> specs;
  for (int rank = 0; rank < size; ++rank) {
    ParameterSet parameters;
    const TensorAxis axis = {rank, size, nullptr, sharded_stream};
    specs.push_back(declare(axis, Scope(parameters).InUnit(2))->spec);
  }
  return specs;
}

// How often each element of the whole is in a box.
std::vector<int> Covered(absl::Span<const ParamSpec> specs) {
  const Shape& whole = specs[0].global;
  std::vector<int> counts(whole.numel());
  for (const ParamSpec& spec : specs) {
    for (int64_t i = 0; i < whole[0]; ++i) {
      for (int64_t j = 0; j < whole[1]; ++j) {
        const Box& box = spec.local;
        counts[i * whole[1] + j] += i >= box.begin[0] && i < box.begin[0] + box.size[0] &&
                                    j >= box.begin[1] && j < box.begin[1] + box.size[1];
      }
    }
  }
  return counts;
}

TEST(TensorAxisTest, RowsAndColumnsTileTheWholeInGrains) {
  for (int size = 1; size <= 8; ++size) {
    for (const int64_t grain : {1, 4}) {
      const Shape rows = {13 * grain, 5}, columns = {5, 13 * grain};
      const auto by_rows = SpecsOf(size, false, [&](const TensorAxis& axis, const Scope& scope) {
        return axis.DeclareRows(scope, "w", rows, Init::Normal(1), grain);
      });
      const auto by_columns = SpecsOf(size, false, [&](const TensorAxis& axis, const Scope& scope) {
        return axis.DeclareColumns(scope, "w", columns, Init::Normal(1), grain);
      });
      EXPECT_EQ(Covered(by_rows), std::vector<int>(rows.numel(), 1));
      EXPECT_EQ(Covered(by_columns), std::vector<int>(rows.numel(), 1));
      for (int rank = 0; rank < size; ++rank) {
        const int64_t grains = ShareOf(13, rank, size).size();
        EXPECT_EQ(by_rows[rank].local.size, Shape({grains * grain, 5}));
        EXPECT_EQ(by_columns[rank].local.size, Shape({5, grains * grain}));
        for (const ParamSpec& spec : {by_rows[rank], by_columns[rank]}) {
          EXPECT_EQ(spec.split, size > 1 ? AxisSet(Axis::kTensor) : AxisSet());
          EXPECT_TRUE(spec.partial_grad.empty());
          EXPECT_EQ(spec.copies, 1);
          EXPECT_TRUE(spec.decay);
          EXPECT_EQ(spec.units, std::vector<int>({2}));
        }
      }
    }
  }
}

TEST(TensorAxisTest, CopiedRowsAreThoseOfNeighbours) {
  for (const auto& [size, copies] :
       {std::pair(1, 1), {2, 2}, {4, 2}, {6, 3}, {6, 2}, {8, 4}, {8, 8}}) {
    const auto specs = SpecsOf(size, false, [&](const TensorAxis& axis, const Scope& scope) {
      return axis.DeclareCopiedRows(scope, "w", {7 * size / copies, 3}, Init::Normal(1), copies);
    });
    EXPECT_EQ(Covered(specs), std::vector<int>(specs[0].global.numel(), copies));
    for (int rank = 0; rank < size; ++rank) {
      EXPECT_EQ(specs[rank].local, specs[rank / copies * copies].local);
      EXPECT_EQ(specs[rank].local.begin[0], rank / copies * 7);
      EXPECT_EQ(specs[rank].copies, copies);
      EXPECT_EQ(specs[rank].split, size > 1 ? AxisSet(Axis::kTensor) : AxisSet());
      EXPECT_TRUE(specs[rank].partial_grad.empty());
    }
  }
}

TEST(TensorAxisTest, WhatIsWholeHasPartialGradientsWhereItsInputIsCut) {
  for (const int size : {1, 2, 3}) {
    for (const bool sharded : {false, true}) {
      const auto on_stream = SpecsOf(size, sharded, [](const TensorAxis& axis, const Scope& scope) {
        return axis.DeclareOnStream(scope, "gain", {6}, Init::Constant(1));
      });
      const auto on_columns =
          SpecsOf(size, sharded, [](const TensorAxis& axis, const Scope& scope) {
            return axis.DeclareOnColumns(scope, "gain", {6}, Init::Constant(1));
          });
      const AxisSet tensor = Axis::kTensor;
      for (int rank = 0; rank < size; ++rank) {
        EXPECT_EQ(on_stream[rank].partial_grad, size > 1 && sharded ? tensor : AxisSet());
        EXPECT_EQ(on_columns[rank].partial_grad, size > 1 ? tensor : AxisSet());
        for (const ParamSpec& spec : {on_stream[rank], on_columns[rank]}) {
          EXPECT_EQ(spec.local, WholeBox({6}));
          EXPECT_TRUE(spec.split.empty());
          EXPECT_FALSE(spec.decay);
        }
      }
    }
  }
}

class StreamLayoutTest : public ::testing::TestWithParam<testing::TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, StreamLayoutTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(StreamLayoutTest, RowsStandWhereTheyStoodInTheWhole) {
  testing::OnRanks(GetParam(), {}, [](Device& device, Communicator& world) -> Status {
    for (const auto& samples :
         std::vector<std::vector<std::vector<int64_t>>>{{{3, 4}, {5}}, {{1}}}) {
      const Batch batch = ToDevice(testing::PackedDocuments(samples, 11, 1, 40), device);
      const int64_t n = batch.layout.num_tokens();
      const Share rows = ShareOf(n, world.rank(), world.size());
      for (const bool sharded : {false, true}) {
        const TensorAxis axis = {world.rank(), world.size(), &world, sharded};
        const TokenLayout stream = axis.StreamLayout(batch.layout);
        const Share expected = sharded ? rows : Share{0, n};
        EXPECT_EQ(axis.StreamRows(n), expected.size());
        EXPECT_EQ(stream.num_tokens(), expected.size());
        for (const auto& [part, whole] : {std::pair(stream.sample, batch.layout.sample),
                                          {stream.position, batch.layout.position}}) {
          EXPECT_EQ(part.ToVector(), whole.View1D(expected.first, expected.size()).ToVector());
        }
      }
    }
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
