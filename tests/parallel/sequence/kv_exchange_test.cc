// Attention over tokens that are cut over ranks, against attention on the whole: outputs and all
// gradients, on every rank.
#include "parallel/sequence/kv_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/autograd/node.h"
#include "core/ops/devices.h"
#include "parallel/comm/local.h"
#include "tests/parallel/sequence/kv_case.h"

namespace trireme {
namespace {

using testing::Cases;
using testing::KvCase;
using testing::Method;
using testing::Methods;
using testing::OnAxis;
using testing::Place;
using testing::Values;

class KvExchangeTest : public ::testing::TestWithParam<testing::TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, KvExchangeTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(KvExchangeTest, EqualsOneRankInF64) {
  for (const KvCase& c : Cases()) {
    const Values inputs = c.Inputs(DType::kF64);
    const Values whole = c.RunWhole(inputs, DType::kF64);
    for (const Method& method : Methods(GetParam().size, c, /*every_cut=*/true)) {
      OnAxis(GetParam(), method,
             [&](Device& device, const KvExchange& exchange, const Place& place, Communicator&) {
               const Values got = c.Run(device, DType::kF64, inputs, place, exchange);
               const Values want = c.RowsOf(whole, place);
               for (int i = 0; i < 4; ++i) {
                 EXPECT_EQ(got[i].size(), want[i].size());
                 for (size_t j = 0; j < got[i].size(); ++j) {
                   const double error = std::abs(got[i][j] - want[i][j]);
                   // Written so that NaN fails.
                   if (!(error <= 1e-12 * std::max(1.0, std::abs(want[i][j])))) {
                     ADD_FAILURE()
                         << method.Name() << " " << c.name << ": " << testing::kResultNames[i]
                         << " element " << j << " of rank " << place.rank << " is off by " << error;
                     break;
                   }
                 }
               }
               return absl::OkStatus();
             });
    }
  }
}

double SquaredDistance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

// The distance of all ranks to the result in f64: at most twice that of one rank.
TEST_P(KvExchangeTest, RoundsLikeOneRank) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const KvCase& c : Cases()) {
      const Values inputs = c.Inputs(dtype);
      const Values exact = c.RunWhole(inputs, DType::kF64);
      const Values one_rank = c.RunWhole(inputs, dtype);
      for (const Method& method : Methods(GetParam().size, c)) {
        OnAxis(GetParam(), method,
               [&](Device& device, const KvExchange& exchange, const Place& place,
                   Communicator& world) -> Status {
                 const Values got = c.Run(device, dtype, inputs, place, exchange);
                 const Values want = c.RowsOf(exact, place);
                 std::vector<double> squares;
                 for (int i = 0; i < 4; ++i) squares.push_back(SquaredDistance(got[i], want[i]));
                 const Tensor sums = Tensor::FromVector(device, {4}, squares, DType::kF64);
                 RETURN_IF_ERROR(world.AllReduce(sums, {.purpose = "distances"})->Wait());
                 for (int i = 0; i < 4; ++i) {
                   const double limit = 2 * std::sqrt(SquaredDistance(one_rank[i], exact[i]));
                   // With one key a softmax is exact on one rank, and may be a rounding off here.
                   EXPECT_LE(std::sqrt(sums.ToVector()[i]), limit + 1e-7)
                       << method.Name() << " " << c.name << " " << DTypeName(dtype) << " "
                       << testing::kResultNames[i];
                 }
                 return absl::OkStatus();
               });
      }
    }
  }
}

// What is kept from forward to backward is linear in this rank's tokens: the output, its
// log-sum-exp and the key ranges; for Ulysses the same of whole sequences with a share of the
// heads, and their q, k, v.
TEST_P(KvExchangeTest, KeepsNothingOfOtherRanks) {
  const KvCase c = {"", {{701, 300}}, 8, 8, 16, 16};
  const Values inputs = c.Inputs(DType::kF32);
  for (const Method& method : Methods(GetParam().size, c)) {
    OnAxis(GetParam(), method,
           [&](Device& device, const KvExchange& exchange, const Place& place, Communicator&) {
             auto x = c.TensorsOf(device, DType::kF32, inputs, place);
             for (int i = 0; i < 3; ++i) x[i].set_requires_grad();
             const int64_t before = device.stats().current_total_bytes;
             const Tensor y = c.Forward(x, place, exchange);
             const int64_t n = x[0].dim(0), f32 = 4, i32 = 4;
             const int64_t rows = 8 * 16 * f32;
             const bool ulysses = method.method == "ulysses" || method.method == "ulysses_ring";
             // Outputs before and after heads are changed back; q, k and v of some heads; key
             // ranges of whole sequences.
             const int64_t u = method.method == "ulysses" ? place.size
                               : ulysses ? std::stoi(method.params.at("ulysses_size"))
                                         : 1;
             const int64_t kept = n * (rows + 8 * f32 + 2 * i32 * u) + (u > 1 ? 4 * n * rows : 0);
             // Ranks of a group have a token more or less.
             EXPECT_LE(device.stats().current_total_bytes - before, kept + u * (6 * rows) + 4096)
                 << method.Name();
             return absl::OkStatus();
           });
  }
}

// Without a gradient the output has the same bits.
TEST_P(KvExchangeTest, ForwardAlone) {
  const KvCase c = Cases().front();
  const Values inputs = c.Inputs(DType::kF32);
  for (const Method& method : Methods(GetParam().size, c)) {
    OnAxis(GetParam(), method,
           [&](Device& device, const KvExchange& exchange, const Place& place, Communicator&) {
             const NoGrad no_grad;
             const Tensor y =
                 c.Forward(c.TensorsOf(device, DType::kF32, inputs, place), place, exchange);
             const EnableGrad grad;
             EXPECT_EQ(y.ToVector(), c.Run(device, DType::kF32, inputs, place, exchange)[0]);
             return absl::OkStatus();
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
      MeshGroups::Create(*world, *Mesh::Create({1, 1, 1, 1, 1}, 1), {AxisSet(Axis::kSequence)});
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
