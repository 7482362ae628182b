// Working copies of stage 3: whole while they are held, no memory otherwise, gathered once a use.
#include "parallel/shard/sharded_parameters.h"

#include <gtest/gtest.h>

#include "core/base/share.h"
#include "core/module/scope.h"
#include "core/ops/devices.h"
#include "parallel/comm/local.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using testing::TestWorld;
using testing::TestWorlds;

// Rows that divide by nothing, fewer rows than ranks, one that units 0 and 2 share.
void Declare(ParameterSet& parameters) {
  const Scope root(parameters);
  Parameter* const shared = root.Declare("shared", {13, 3}, Init::Normal(1));
  root.Declare("a", {1, 5}, Init::Normal(1));
  root.InUnit(1).Declare("b", {7}, Init::Normal(1));
  root.InUnit(1).Declare("c", {64, 32}, Init::Normal(1));
  root.InUnit(2).Share(shared);
}

std::vector<std::vector<double>> Wholes(Device& device, DType dtype) {
  ParameterSet parameters;
  Declare(parameters);
  ThrowIfError(parameters.Materialize(device, dtype, 7));
  std::vector<std::vector<double>> values;
  for (const auto& parameter : parameters.parameters())
    values.push_back(parameter->working.ToVector());
  return values;
}

int64_t ParameterBytes(const Device& device) {
  return device.stats().current_bytes[static_cast<int>(MemoryKind::kParameters)];
}

int64_t Gathers(const Communicator& world) {
  int64_t count = 0;
  for (const CallRecord& record : world.journal().Records())
    count += record.verb == Verb::kAllGather;
  return count;
}

struct Fixture {
  Fixture(Device& device, Communicator& world, DType dtype, bool release) {
    Declare(parameters);
    ThrowIfError(parameters.Materialize(device, dtype, 7, {world.rank(), world.size(), release}));
    sharding = std::make_unique<ShardedParameters>(parameters, &world, release);
  }
  const Parameter& at(int i) const { return *parameters.parameters()[i]; }
  bool resident(int i) const { return at(i).working.storage()->resident(); }

  ParameterSet parameters;
  std::unique_ptr<ShardedParameters> sharding;
};

class ShardedParametersTest : public ::testing::TestWithParam<TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, ShardedParametersTest, ::testing::ValuesIn(TestWorlds()),
                         testing::WorldName);

TEST_P(ShardedParametersTest, AUnitIsWholeWhileItIsHeldAndCostsNothingElse) {
  testing::OnRanks(GetParam(), {}, [](Device& device, Communicator& world) -> Status {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const std::vector<std::vector<double>> wholes = Wholes(device, dtype);
      const int64_t before = ParameterBytes(device);
      Fixture f(device, world, dtype, /*release=*/true);
      const int64_t released = ParameterBytes(device);
      int64_t owned = 0;
      for (const auto& parameter : f.parameters.parameters()) owned += parameter->owned.numel() * 4;
      EXPECT_EQ(released - before, owned);

      f.sharding->Acquire(1);
      EXPECT_FALSE(f.resident(0) || f.resident(1));
      EXPECT_EQ(ParameterBytes(device) - released, (7 + 64 * 32) * DTypeSize(dtype));
      EXPECT_EQ(f.at(2).working.ToVector(), wholes[2]);
      EXPECT_EQ(f.at(3).working.ToVector(), wholes[3]);
      f.sharding->Release(1);
      EXPECT_EQ(ParameterBytes(device), released);

      // What two units use goes with the last of them.
      f.sharding->Acquire(0);
      f.sharding->Acquire(2);
      f.sharding->Release(0);
      EXPECT_FALSE(f.resident(1));
      EXPECT_EQ(f.at(0).working.ToVector(), wholes[0]);
      f.sharding->Release(2);
      EXPECT_EQ(ParameterBytes(device), released);
    }
    return absl::OkStatus();
  });
}

TEST_P(ShardedParametersTest, AUseIsOneGather) {
  testing::OnRanks(GetParam(), {}, [](Device& device, Communicator& world) -> Status {
    Fixture f(device, world, DType::kF32, /*release=*/true);
    EXPECT_EQ(Gathers(world), 0);
    f.sharding->Prefetch(1);
    f.sharding->Prefetch(1);
    EXPECT_EQ(Gathers(world), 2);
    f.sharding->Acquire(1);
    f.sharding->Acquire(1);  // By another action.
    EXPECT_EQ(Gathers(world), 2);
    f.sharding->Release(1);
    EXPECT_TRUE(f.resident(3));
    f.sharding->Release(1);
    EXPECT_FALSE(f.resident(3));
    f.sharding->Prefetch(-1);  // There is no unit before the first, nor behind the last.
    f.sharding->Prefetch(17);
    EXPECT_EQ(Gathers(world), 2);
    f.sharding->Acquire(2);
    f.sharding->Prefetch(0);  // `shared` is held.
    EXPECT_EQ(Gathers(world), 4);
    f.sharding->Acquire(0);
    f.sharding->Release(2);
    f.sharding->Release(0);
    return absl::OkStatus();
  });
}

TEST_P(ShardedParametersTest, AnUpdateIsSeenByTheNextUse) {
  testing::OnRanks(GetParam(), {}, [](Device& device, Communicator& world) -> Status {
    for (const bool release : {false, true}) {
      Fixture f(device, world, DType::kBF16, release);
      RETURN_IF_ERROR(f.sharding->Refresh());
      for (int round = 0; round < 2; ++round) {
        std::vector<std::vector<double>> expected;
        for (const auto& parameter : f.parameters.parameters()) {
          parameter->owned.Fill(world.rank() + 10 * round);
          const Shape& shape = parameter->spec.global;
          std::vector<double> values;
          for (int rank = 0; rank < world.size(); ++rank) {
            const int64_t rows = ShareOf(shape[0], rank, world.size()).size();
            values.insert(values.end(), rows * shape.numel() / shape[0], rank + 10 * round);
          }
          expected.push_back(values);
        }
        RETURN_IF_ERROR(f.sharding->Refresh());
        for (const int unit : {0, 1}) f.sharding->Acquire(unit);
        for (size_t i = 0; i < expected.size(); ++i) {
          EXPECT_EQ(f.at(static_cast<int>(i)).working.ToVector(), expected[i]) << release;
        }
        for (const int unit : {0, 1}) f.sharding->Release(unit);
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(ShardedParametersTest, AGatherSendsTheOwnedRowsToEachOther) {
  testing::OnRanks(GetParam(), {}, [](Device& device, Communicator& world) -> Status {
    Fixture f(device, world, DType::kBF16, /*release=*/true);
    f.sharding->Acquire(1);
    f.sharding->Release(1);
    const int64_t rows = f.at(2).owned.numel() + f.at(3).owned.numel();
    EXPECT_EQ(world.journal().SentBytes(world.axis()), rows * 2 * (world.size() - 1));
    return absl::OkStatus();
  });
}

TEST(ShardedParametersAloneTest, WithoutOwnersNothingIsReleased) {
  auto device = MakeCpuDevice();
  ParameterSet parameters;
  Declare(parameters);
  ASSERT_TRUE(parameters.Materialize(*device, DType::kF32, 7).ok());
  ShardedParameters sharding(parameters, nullptr, /*release=*/true);
  ASSERT_TRUE(sharding.Refresh().ok());
  sharding.Acquire(0);
  sharding.Release(0);
  for (const auto& parameter : parameters.parameters()) {
    EXPECT_TRUE(parameter->working.storage()->resident());
  }
}

}  // namespace
}  // namespace trireme
