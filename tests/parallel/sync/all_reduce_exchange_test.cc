#include "parallel/sync/all_reduce_exchange.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/base/log.h"
#include "core/module/scope.h"
#include "core/ops/devices.h"
#include "parallel/comm/local.h"

namespace trireme {
namespace {

TEST(ShareTest, SharesTileTheBatchForEveryRankCount) {
  for (int64_t n = 0; n <= 13; ++n) {
    for (int size = 1; size <= 8; ++size) {
      int64_t next = 0;
      for (int rank = 0; rank < size; ++rank) {
        const Share share = ShareOf(n, rank, size);
        EXPECT_EQ(share.first, next);
        EXPECT_GE(share.last - share.first, n / size);
        EXPECT_LE(share.last - share.first, (n + size - 1) / size);
        next = share.last;
      }
      EXPECT_EQ(next, n);
    }
  }
}

TEST(MicroBatchesTest, EverySampleOfTheStepIsInOneItemOfOneRank) {
  for (const int64_t micro : {0, 1, 2, 3, 5}) {
    std::vector<int64_t> seen;
    for (int rank = 0; rank < 3; ++rank) {
      for (const WorkItem& item : MicroBatches({10, micro, 1}, rank, 3, 7)) {
        EXPECT_EQ(item.job, 7);
        EXPECT_LE(item.samples.size(), micro == 0 ? 4u : static_cast<size_t>(micro));
        seen.insert(seen.end(), item.samples.begin(), item.samples.end());
      }
    }
    std::vector<int64_t> expected(10);
    std::iota(expected.begin(), expected.end(), 70);
    EXPECT_EQ(seen, expected) << micro;
  }
}

// Four units of 6, 0, 10 and 3 elements.
void DeclareUnits(ParameterSet& parameters) {
  const Scope root(parameters);
  root.InUnit(0).Declare("a", {2, 3}, Init::Constant(0));
  root.InUnit(2).Declare("b", {10}, Init::Constant(0));
  root.InUnit(3).Declare("c", {3}, Init::Constant(0));
}

TEST(AllReduceExchangeTest, SumsOverRanksWhateverTheBuckets) {
  for (const int64_t bucket_bytes : {1, 50, 1 << 20}) {
    const Status status = RunOnRanks(3, {}, [&](Communicator& world) -> Status {
      auto device = MakeCpuDevice();
      ParameterSet parameters;
      DeclareUnits(parameters);
      RETURN_IF_ERROR(parameters.Materialize(*device, DType::kF32, 1));
      AllReduceExchange exchange(parameters, *device, world, {8, 0, bucket_bytes});
      for (int64_t step = 0; step < 2; ++step) {
        exchange.Plan(step);
        GradientBuffers& sink = exchange.sink(0);
        exchange.Reset();
        for (int unit = 3; unit >= 0; --unit) {
          for (size_t i = 0; i < 3; ++i) {
            const Parameter& parameter = *parameters.parameters()[i];
            // Rank 1 never touches b: its contribution is zero, not what the memory held.
            if (parameter.unit() != unit || (i == 1 && world.rank() == 1)) continue;
            sink.Open(parameter.working).buffer.Fill(world.rank() + 10 * i + step);
          }
          RETURN_IF_ERROR(exchange.UnitDone(0, unit, true));
        }
        auto jobs = exchange.Finish({{1.5, 2 + world.rank(), 7}});
        RETURN_IF_ERROR(jobs.status());
        EXPECT_EQ((*jobs)[0].job, step);
        EXPECT_EQ((*jobs)[0].loss.sum, 4.5);
        EXPECT_EQ((*jobs)[0].loss.count, 9);
        EXPECT_EQ((*jobs)[0].loss.bytes, 21);
        EXPECT_EQ(exchange.gradients().of(0).ToVector(), std::vector<double>(6, 3 + 3 * step));
        EXPECT_EQ(exchange.gradients().of(1).ToVector(), std::vector<double>(10, 22 + 2 * step));
        EXPECT_EQ(exchange.gradients().of(2).ToVector(), std::vector<double>(3, 63 + 3 * step));
      }
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(AllReduceExchangeTest, ARankWithoutItemsTakesPart) {
  const Status status = RunOnRanks(3, {}, [&](Communicator& world) -> Status {
    auto device = MakeCpuDevice();
    ParameterSet parameters;
    DeclareUnits(parameters);
    RETURN_IF_ERROR(parameters.Materialize(*device, DType::kF32, 1));
    AllReduceExchange exchange(parameters, *device, world, {2, 0, 1});
    const auto items = exchange.Plan(0);
    EXPECT_EQ(items.size(), world.rank() == 2 ? 0u : 1u);
    exchange.Reset();
    if (!items.empty()) {
      for (const auto& parameter : parameters.parameters()) {
        exchange.sink(0).Open(parameter->working).buffer.Fill(1);
      }
      RETURN_IF_ERROR(exchange.UnitDone(0, 3, true));
      RETURN_IF_ERROR(exchange.UnitDone(0, 2, true));
    }
    auto jobs = exchange.Finish({{}});
    RETURN_IF_ERROR(jobs.status());
    EXPECT_EQ(exchange.gradients().All().ToVector(), std::vector<double>(19, 2));
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace trireme
