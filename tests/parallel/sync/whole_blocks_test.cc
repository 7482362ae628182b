#include "parallel/sync/whole_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "absl/strings/str_cat.h"

#include "core/base/rng.h"
#include "core/base/share.h"
#include "core/module/scope.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using testing::OnRanks;

// Ranks shard x tensor, tensor innermost: the tensor axis cuts `dim` into tensor / copies parts
// (dim -1: not at all), shard cuts the rows of each.
struct Layout {
  int shard = 1, tensor = 1, dim = -1, copies = 1;
  int num_ranks() const { return shard * tensor; }
  std::string ToString() const {
    return absl::StrCat("shard ", shard, " tensor ", tensor, " dim ", dim, " copies ", copies);
  }
};

Box OwnedBox(const Layout& layout, const Shape& shape, int rank) {
  Box box = WholeBox(shape);
  if (layout.dim >= 0 && layout.dim < shape.rank()) {
    const Share part = ShareOf(shape[layout.dim], rank % layout.tensor / layout.copies,
                               layout.tensor / layout.copies);
    box.begin[layout.dim] = part.first;
    box.size[layout.dim] = part.size();
  }
  if (shape.rank() > 0) {
    const Share rows = ShareOf(box.size[0], rank / layout.tensor, layout.shard);
    box.begin[0] += rows.first;
    box.size[0] = rows.size();
  }
  return box;
}

BlockParameter Boxes(const Layout& layout, const Shape& shape, uint64_t key) {
  BlockParameter parameter{key, shape, {}};
  for (int r = 0; r < layout.num_ranks(); ++r) {
    parameter.boxes.push_back(OwnedBox(layout, shape, r));
  }
  return parameter;
}

// Element i of parameter p holds 1000 p + i + 1.
std::vector<double> SliceValues(const BlockParameter& parameter, int p, int rank) {
  const Box& box = parameter.boxes[rank];
  std::vector<double> values(box.numel());
  const Shape strides = DenseStrides(parameter.shape), own = DenseStrides(box.size);
  for (int64_t i = 0; i < box.numel(); ++i) {
    int64_t rest = i, flat = 0;
    for (int d = 0; d < box.rank(); ++d) {
      flat += (box.begin[d] + rest / own[d]) * strides[d];
      rest %= own[d];
    }
    values[i] = 1000.0 * p + flat + 1;
  }
  return values;
}

std::vector<double> PieceValues(const BlockPlan& plan,
                                absl::Span<const BlockParameter> parameters) {
  std::vector<double> values;
  for (const CodecPiece& piece : plan.pieces) {
    int p = 0;
    while (parameters[p].key != piece.key) ++p;
    for (int64_t i = 0; i < piece.size; ++i) values.push_back(1000.0 * p + piece.first + i + 1);
  }
  return values;
}

// What is wrong with the plans of all ranks; "" when nothing is.
std::string WrongWith(const std::vector<BlockPlan>& plans,
                      absl::Span<const BlockParameter> parameters, int64_t block_size) {
  const int num_ranks = static_cast<int>(plans.size());
  std::vector<std::vector<std::vector<double>>> slices(num_ranks), back(num_ranks);
  std::vector<std::vector<double>> flats(num_ranks);
  std::map<std::pair<int, int>, std::vector<double>> messages, replies;
  bool moves = false;
  // Each rank's blocks are whole, and the copies of a block as many as those of other blocks.
  std::vector<std::map<int64_t, int>> owners(parameters.size());
  for (int r = 0; r < num_ranks; ++r) {
    for (size_t p = 0; p < parameters.size(); ++p) {
      slices[r].push_back(SliceValues(parameters[p], static_cast<int>(p), r));
      back[r].push_back(std::vector<double>(slices[r][p].size(), 0.0));
    }
    int64_t size = 0;
    for (const CodecPiece& piece : plans[r].pieces) {
      size += piece.size;
      const int64_t n = piece.parameter.numel(), block = block_size == 0 ? n : block_size;
      if (piece.size <= 0 || piece.first % block != 0) return "a piece begins inside a block";
      if (piece.first + piece.size != n && piece.size % block != 0) return "a block is not whole";
      if (piece.first + piece.size > n) return "a piece is too long";
      for (size_t p = 0; p < parameters.size(); ++p) {
        if (parameters[p].key != piece.key) continue;
        for (int64_t b = piece.first; b < piece.first + piece.size; b += block) ++owners[p][b];
      }
    }
    if (size != plans[r].size) return "the size is not that of the pieces";
    flats[r].assign(size, 0.0);
  }
  for (size_t p = 0; p < parameters.size(); ++p) {
    const int64_t n = parameters[p].shape.numel(), block = block_size == 0 ? n : block_size;
    int copies = 0;
    for (int r = 0; r < num_ranks; ++r) copies += parameters[p].boxes[r].numel();
    for (int64_t b = 0; b < n; b += block) {
      if (owners[p][b] != copies / n) return "a block has too few or too many owners";
    }
  }
  for (int r = 0; r < num_ranks; ++r) {
    for (const BlockMove& move : plans[r].kept) {
      for (int64_t i = 0; i < move.size; ++i) {
        flats[r].at(move.flat + i) = slices[r][move.parameter].at(move.slice + i);
      }
    }
    for (const BlockMove& move : plans[r].out) {
      if (move.peer == r) return "a message to oneself";
      moves = true;
      for (int64_t i = 0; i < move.size; ++i) {
        messages[{r, move.peer}].push_back(slices[r][move.parameter].at(move.slice + i));
      }
    }
  }
  for (int r = 0; r < num_ranks; ++r) {
    if (plans[r].moves != moves) return "a rank does not know whether there are messages";
    std::map<int, size_t> read;
    for (const BlockMove& move : plans[r].in) {
      const std::vector<double>& message = messages[{move.peer, r}];
      size_t& at = read[move.peer];
      if (at + move.size > message.size()) return "a message is too short";
      for (int64_t i = 0; i < move.size; ++i) flats[r].at(move.flat + i) = message[at++];
    }
    for (int s = 0; s < num_ranks; ++s) {
      if (read[s] != messages[{s, r}].size()) return "a message is too long";
    }
    if (flats[r] != PieceValues(plans[r], parameters)) return "an element is in a wrong place";
    for (const BlockMove& move : plans[r].kept) {
      for (int64_t i = 0; i < move.size; ++i) {
        back[r][move.parameter].at(move.slice + i) = flats[r].at(move.flat + i);
      }
    }
  }
  for (int r = 0; r < num_ranks; ++r) {
    for (const BlockMove& move : plans[r].in) {
      for (int64_t i = 0; i < move.size; ++i) {
        replies[{r, move.peer}].push_back(flats[r].at(move.flat + i));
      }
    }
  }
  for (int r = 0; r < num_ranks; ++r) {
    std::map<int, size_t> read;
    for (const BlockMove& move : plans[r].out) {
      const std::vector<double>& reply = replies[{move.peer, r}];
      size_t& at = read[move.peer];
      if (at + move.size > reply.size()) return "a reply is too short";
      for (int64_t i = 0; i < move.size; ++i) {
        back[r][move.parameter].at(move.slice + i) = reply[at++];
      }
    }
    if (back[r] != slices[r]) return "an element came back to a wrong place";
  }
  return "";
}

std::vector<BlockPlan> PlansOf(absl::Span<const BlockParameter> parameters, int64_t block_size,
                               int num_ranks) {
  std::vector<BlockPlan> plans;
  for (int r = 0; r < num_ranks; ++r) {
    auto plan = PlanBlocks(parameters, block_size, r, num_ranks);
    EXPECT_TRUE(plan.ok()) << plan.status();
    if (plan.ok()) plans.push_back(*std::move(plan));
  }
  return plans;
}

std::vector<Layout> Layouts() {
  std::vector<Layout> layouts;
  for (const int ranks : {1, 2, 3, 4, 6, 8}) {
    for (int tensor = 1; tensor <= ranks; ++tensor) {
      if (ranks % tensor != 0) continue;
      for (const int dim : {-1, 0, 1}) {
        for (int copies = 1; copies <= tensor; ++copies) {
          if (tensor % copies != 0 || (dim < 0 && copies > 1)) continue;
          layouts.push_back({ranks / tensor, tensor, dim, copies});
        }
      }
    }
  }
  return layouts;
}

TEST(BlockPlanTest, EveryBlockIsWholeOnceForEveryCutOfSmallShapes) {
  int64_t num_plans = 0;
  for (const Layout& layout : Layouts()) {
    for (int64_t rows = 1; rows <= 3; ++rows) {
      for (int64_t cols = 1; cols <= 4; ++cols) {
        const std::vector<BlockParameter> parameters = {
            Boxes(layout, {rows, cols}, 1),
            Boxes(layout, {cols}, 2),
            Boxes(layout, {rows, 0}, 3),
            Boxes({layout.shard, layout.tensor}, {cols, 2, rows}, 4),
        };
        for (const int64_t block : {0, 1, 2, 3, 5}) {
          const auto plans = PlansOf(parameters, block, layout.num_ranks());
          const std::string wrong = WrongWith(plans, parameters, block);
          ASSERT_EQ(wrong, "") << layout.ToString() << " of [" << rows << ", " << cols
                               << "], blocks of " << block;
          ++num_plans;
        }
      }
    }
  }
  EXPECT_GT(num_plans, 2000);
}

TEST(BlockPlanTest, ABlockGoesToTheOwnerOfItsFirstElement) {
  // Two columns of ranks: each row of 6 in halves; blocks of 4 begin at 0, 4, 8.
  const BlockParameter parameter = Boxes({1, 2, 1}, {2, 6}, 9);
  const auto plans = PlansOf({&parameter, 1}, 4, 2);
  ASSERT_EQ(plans[0].pieces.size(),
            2u);  // [0, 4) and [8, 12): elements 0 and 8 are of columns 0, 2.
  EXPECT_EQ(plans[0].pieces[0].first, 0);
  EXPECT_EQ(plans[0].pieces[1].first, 8);
  EXPECT_EQ(plans[0].size, 8);
  EXPECT_EQ(plans[1].pieces[0].first, 4);
  EXPECT_EQ(plans[1].size, 4);
  EXPECT_EQ(plans[1].pieces[0].key, 9u);
  EXPECT_EQ(plans[1].pieces[0].parameter, (Shape{2, 6}));
  EXPECT_EQ(plans[0].in, (std::vector<BlockMove>{{1, 0, 0, 3, 1}, {1, 0, 3, 5, 3}}));
}

TEST(BlockPlanTest, NothingMovesWhenNoSliceCutsABlock) {
  for (const Layout& layout : Layouts()) {
    for (const int64_t block : {1, 2, 4}) {
      // Rows and columns in parts of whole blocks; a share of nothing here and there.
      const std::vector<BlockParameter> parameters = {
          Boxes(layout, {3, 4 * layout.tensor / layout.copies}, 1), Boxes(layout, {64}, 2)};
      const auto plans = PlansOf(parameters, block, layout.num_ranks());
      if (64 % (4 * layout.num_ranks()) != 0) continue;
      for (const BlockPlan& plan : plans) EXPECT_FALSE(plan.moves) << layout.ToString();
      ASSERT_EQ(WrongWith(plans, parameters, block), "");
    }
  }
  // Rows in shards, blocks of whole parameters: all to one.
  const BlockParameter parameter = Boxes({4, 1}, {8, 2}, 1);
  const auto plans = PlansOf({&parameter, 1}, 0, 4);
  EXPECT_EQ(plans[0].size, 16);
  for (int r = 1; r < 4; ++r) EXPECT_EQ(plans[r].size, 0);
  EXPECT_TRUE(plans[0].moves);
}

// The checks above notice any plan that is not right.
TEST(BlockPlanTest, WrongPlansAreSeen) {
  const std::vector<BlockParameter> parameters = {Boxes({2, 2, 1}, {5, 7}, 1),
                                                  Boxes({2, 2}, {6}, 2)};
  const auto right = PlansOf(parameters, 4, 4);
  ASSERT_EQ(WrongWith(right, parameters, 4), "");
  int num_mutations = 0;
  const auto expect_seen = [&](const std::vector<BlockPlan>& plans, const char* what) {
    EXPECT_NE(WrongWith(plans, parameters, 4), "") << what;
    ++num_mutations;
  };
  for (int r = 0; r < 4; ++r) {
    for (const auto moves : {&BlockPlan::kept, &BlockPlan::out, &BlockPlan::in}) {
      for (size_t i = 0; i < (right[r].*moves).size(); ++i) {
        auto plans = right;
        auto& list = plans[r].*moves;
        list.erase(list.begin() + i);
        expect_seen(plans, "a move left out");
        if (i + 1 < list.size() && list[i].peer == list[i + 1].peer && moves != &BlockPlan::kept) {
          plans = right;
          std::swap((plans[r].*moves)[i], (plans[r].*moves)[i + 1]);
          expect_seen(plans, "two moves swapped");
        }
        plans = right;
        --(plans[r].*moves)[i].size;
        expect_seen(plans, "a move too short");
        plans = right;
        BlockMove& move = (plans[r].*moves)[i];
        if (moves != &BlockPlan::in && move.slice > 0) {
          --move.slice;
          expect_seen(plans, "a slice's element beside");
        }
        plans = right;
        if (moves != &BlockPlan::out && (plans[r].*moves)[i].flat > 0) {
          --(plans[r].*moves)[i].flat;
          expect_seen(plans, "a block's element beside");
        }
      }
    }
    for (size_t i = 0; i < right[r].pieces.size(); ++i) {
      auto plans = right;
      plans[r].pieces[i].first += 4;
      expect_seen(plans, "another piece");
    }
    auto plans = right;
    plans[r].moves = false;
    expect_seen(plans, "messages denied");
  }
  EXPECT_GT(num_mutations, 100);
}

TEST(BlockPlanTest, RejectsBoxesThatDoNotTile) {
  BlockParameter parameter = Boxes({1, 2, 0}, {4, 3}, 1);
  parameter.boxes[1].size[0] = 1;
  EXPECT_THAT(std::string(PlanBlocks({&parameter, 1}, 2, 0, 2).status().message()),
              HasSubstr("boxes cover 9 of 12"));
  parameter = Boxes({1, 3}, {4, 3}, 1);
  parameter.boxes[0].size[0] = 2;
  parameter.boxes[1].size[0] = 2;
  parameter.boxes[2].size[0] = 2;
  parameter.boxes[2].begin[0] = 2;
  EXPECT_THAT(std::string(PlanBlocks({&parameter, 1}, 2, 0, 3).status().message()),
              HasSubstr("2 ranks own [0:2, 0:3] and 1 own [2:4, 0:3]"));
}

class WholeBlocksTest : public ::testing::TestWithParam<testing::TestWorld> {
 protected:
  int size() const { return GetParam().size; }
};
INSTANTIATE_TEST_SUITE_P(Worlds, WholeBlocksTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(WholeBlocksTest, BringsBlocksTogetherAndBack) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    for (const Layout& layout : Layouts()) {
      if (layout.num_ranks() != size()) continue;
      ParameterSet parameters;
      const std::vector<std::pair<std::string, Shape>> declared = {
          {"a", {7, 6}}, {"b", {11}}, {"frozen", {4}}, {"c", {5, 3, 2}}};
      std::vector<BlockParameter> expected;
      for (const auto& [path, shape] : declared) {
        ParamSpec spec;
        spec.path = path;
        spec.global = shape;
        spec.local = WholeBox(shape);
        spec.units = {0};
        Parameter* parameter = parameters.Declare(spec);
        parameter->owned_box = OwnedBox(layout, shape, world.rank());
        if (path != "frozen") expected.push_back(Boxes(layout, shape, StableHash(path)));
      }
      for (const int64_t block : {0, 1, 4, 5}) {
        ASSIGN_OR_RETURN(const auto blocks,
                         WholeBlocks::Create(parameters, {0, 1, 3}, block,
                                             size() == 1 ? nullptr : &world, device));
        const auto plans = PlansOf(expected, block, size());
        EXPECT_EQ(blocks->moves(), plans[0].moves);
        for (const DType dtype : {DType::kF32, DType::kF64}) {
          std::vector<Tensor> slices;
          for (int p = 0; p < 3; ++p) {
            const std::vector<double> values = SliceValues(expected[p], p, world.rank());
            slices.push_back(
                Tensor::FromVector(device, {static_cast<int64_t>(values.size())}, values, dtype));
          }
          const Tensor flat = Tensor::Full(device, {blocks->size()}, dtype, -1);
          const auto sent = [&] {
            return world.journal().SentBytes()[{world.axis(), "whole blocks"}];
          };
          int64_t before = sent();
          RETURN_IF_ERROR(blocks->ToBlocks(slices, flat));
          EXPECT_EQ(sent() - before, blocks->ToBlocksBytes(dtype));
          EXPECT_EQ(flat.ToVector(), PieceValues(plans[world.rank()], expected))
              << layout.ToString();
          for (const Tensor& slice : slices) slice.Fill(-2);
          before = sent();
          RETURN_IF_ERROR(blocks->FromBlocks(flat, slices));
          EXPECT_EQ(sent() - before, blocks->FromBlocksBytes(dtype));
          for (int p = 0; p < 3; ++p) {
            EXPECT_EQ(slices[p].ToVector(), SliceValues(expected[p], p, world.rank()))
                << layout.ToString();
          }
        }
      }
    }
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
