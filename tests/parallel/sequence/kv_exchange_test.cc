// Attention over tokens that are cut over ranks, against attention on the whole: outputs and all
// gradients, on every rank.
#include "parallel/sequence/kv_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <mutex>

#include "tests/parallel/sequence/kv_case.h"

namespace trireme {
namespace {

using testing::Cases;
using testing::KvCase;
using testing::Method;
using testing::Methods;
using testing::OnSequenceRanks;
using testing::Place;
using testing::Tensors;

// The squared distance to a result in f64, by tensor, over all ranks.
struct Distance {
  std::mutex mutex;
  std::array<double, 4> squares = {};

  void Add(const Tensors& got, const Tensors& want) {
    const std::lock_guard<std::mutex> lock(mutex);
    for (int i = 0; i < 4; ++i) {
      const std::vector<double> a = got[i].ToVector(), b = want[i].ToVector();
      ASSERT_EQ(a.size(), b.size());
      for (size_t j = 0; j < a.size(); ++j) squares[i] += (a[j] - b[j]) * (a[j] - b[j]);
    }
  }
};

class KvExchangeTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, KvExchangeTest, ::testing::Values(1, 2, 3, 4, 8));

TEST_P(KvExchangeTest, EqualsOneRankInF64) {
  for (const KvCase& c : Cases()) {
    for (const Method& method : Methods(GetParam(), c)) {
      SCOPED_TRACE(method.Name() + " " + c.name);
      OnSequenceRanks(
          GetParam(), method,
          [&](Device& device, const KvExchange& exchange, const Place& place, Communicator&) {
            const Tensors got = c.Run(device, DType::kF64, DType::kF64, place, exchange);
            const Tensors want = c.RowsOf(c.RunWhole(device, DType::kF64, DType::kF64), place);
            for (int i = 0; i < 4; ++i) {
              const std::vector<double> a = got[i].ToVector(), b = want[i].ToVector();
              ASSERT_EQ(a.size(), b.size());
              for (size_t j = 0; j < a.size(); ++j) {
                ASSERT_NEAR(a[j], b[j], 1e-12 * std::max(1.0, std::abs(b[j])))
                    << testing::kTensorNames[i] << " element " << j;
              }
            }
          });
    }
  }
}

// Distances to the result in f64, summed over ranks: at most twice those of one rank.
TEST_P(KvExchangeTest, RoundsLikeOneRank) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const KvCase& c : Cases()) {
      for (const Method& method : Methods(GetParam(), c)) {
        Distance ours, one_rank;
        OnSequenceRanks(
            GetParam(), method,
            [&](Device& device, const KvExchange& exchange, const Place& place, Communicator&) {
              const Tensors want = c.RowsOf(c.RunWhole(device, DType::kF64, dtype), place);
              ours.Add(c.Run(device, dtype, dtype, place, exchange), want);
              one_rank.Add(c.RowsOf(c.RunWhole(device, dtype, dtype), place), want);
            });
        for (int i = 0; i < 4; ++i) {
          // A case may be exact in one place and one rounding off in the other.
          EXPECT_LE(std::sqrt(ours.squares[i]), 2 * std::sqrt(one_rank.squares[i]) + 1e-7)
              << method.Name() << " " << c.name << " " << DTypeName(dtype) << " "
              << testing::kTensorNames[i];
        }
      }
    }
  }
}

// Without a gradient nothing is kept, and the output has the same bits.
TEST_P(KvExchangeTest, ForwardAlone) {
  const KvCase c = Cases().front();
  for (const Method& method : Methods(GetParam(), c)) {
    OnSequenceRanks(
        GetParam(), method,
        [&](Device& device, const KvExchange& exchange, const Place& place, Communicator&) {
          const Tensor y = c.Forward(device, DType::kF32, place, exchange);
          EXPECT_FALSE(y.requires_grad());
          EXPECT_EQ(y.ToVector(),
                    c.Run(device, DType::kF32, DType::kF32, place, exchange)[0].ToVector());
        });
  }
}

TEST(KvExchangePlanTest, BadSizesAreRefusedByName) {
  const auto message = [](const StatusOr<KvExchangePlan>& plan) {
    EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(plan.status().message());
  };
  EXPECT_THAT(message(PlanKvExchange("rign", {}, 2)), ::testing::HasSubstr("'ring'"));
  EXPECT_THAT(message(PlanKvExchange("ring", {{"ulysses_size", "2"}}, 2)),
              ::testing::HasSubstr("ulysses_size"));
  EXPECT_THAT(message(PlanKvExchange("ulysses_ring", {}, 2)), ::testing::HasSubstr("ulysses_size"));
  EXPECT_EQ(message(PlanKvExchange("ulysses_ring", {{"ulysses_size", "3"}}, 8)),
            "ulysses_ring: ulysses_size = 3 does not divide the sequence axis of 8 ranks");
  const KvExchangePlan plan = *PlanKvExchange("ulysses", {}, 4);
  EXPECT_TRUE(CheckHeads(plan, 8, 4).ok());
  EXPECT_TRUE(CheckHeads(plan, 8, 8).ok());
  EXPECT_TRUE(CheckHeads(plan, 8, 2).ok());
  EXPECT_TRUE(CheckHeads(plan, 4, 1).ok());
  EXPECT_EQ(CheckHeads(plan, 6, 2).message(), "ulysses over 4 ranks cannot cut 6 heads");
  EXPECT_EQ(CheckHeads(plan, 12, 6).message(),
            "ulysses over 4 ranks can neither cut 6 key-value heads nor copy them evenly");
  EXPECT_TRUE(CheckHeads(*PlanKvExchange("ring", {}, 4), 3, 1).ok());
}

TEST(KvExchangeDeathTest, AnotherRanksLayout) {
  const auto device = MakeCpuDevice();
  const auto world = MakeSelfCommunicator();
  const auto groups =
      MeshGroups::Create(*world, *Mesh::Create({1, 1, 1, 1, 1}, 1), {Axis::kSequence});
  const auto exchange = MakeKvExchange(*PlanKvExchange("ring", {}, 1), **groups);
  TokenLayout layout;
  layout.segments = layout.documents = {{0, 0, 2}};
  const Tensor x = Tensor::Zeros(*device, {2, 1, 4}, DType::kF32);
  EXPECT_DEATH((*exchange)(x, x, x, layout, 0, 1), "ranks in the layout");
  layout.axis_segments = {{{0, 2, 2}}};
  EXPECT_DEATH((*exchange)(x, x, x, layout, 0, 1), "the layout of another rank than 0");
}

}  // namespace
}  // namespace trireme
