#include "parallel/pipeline/executor.h"

#include <gtest/gtest.h>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/module/scope.h"
#include "core/ops/devices.h"
#include "core/ops/ops.h"
#include "parallel/comm/local.h"
#include "parallel/sync/all_reduce_exchange.h"

namespace trireme {
namespace {

constexpr int kUnits = 4;

// y = (((x w0) w1) w2) w3, summed; the backward of each unit asks `on_backward(unit)`.
class Chain : public Model {
 public:
  explicit Chain(std::function<void(int)> on_backward) : on_backward_(std::move(on_backward)) {
    for (int unit = 0; unit < kUnits; ++unit) {
      weights_.push_back(
          Scope(parameters()).InUnit(unit).Declare(std::to_string(unit), {3, 3}, Init::Normal(1)));
    }
  }
  int num_units() const override { return kUnits; }
  Tensor RunUnit(int unit, const Tensor& hidden, const Batch& batch,
                 const ForwardContext&) override {
    const Tensor x = unit == 0 ? batch.inputs : hidden;
    const Tensor& weight = weights_[unit]->working;
    const Tensor probed = Record("probe", {weight}, weight.Detach(),
                                 [this, unit](absl::Span<const Tensor> grads) -> Grads {
                                   on_backward_(unit);
                                   return {grads[0]};
                                 });
    const Tensor y = MatMul(x, probed);
    return unit + 1 == kUnits ? Sum(y) : y;
  }

 private:
  std::function<void(int)> on_backward_;
  std::vector<const Parameter*> weights_;
};

StatusOr<Batch> LoadOnes(Device& device, const WorkItem& item) {
  const int64_t n = item.samples.size();
  Batch batch;
  batch.inputs = Tensor::Full(device, {n, 3}, DType::kF64, 1);
  batch.num_targets = n;
  return batch;
}

// The exchange starts to talk about the last units while the first ones are still being
// differentiated.
TEST(ExecutorTest, TheFirstBucketStartsBeforeTheLastUnitsBackward) {
  const Status status = RunOnRanks(2, {}, [&](Communicator& world) -> Status {
    auto device = MakeCpuDevice();
    std::vector<int64_t> started_before(kUnits, -1);
    Chain model([&](int unit) {
      started_before[unit] = static_cast<int64_t>(world.journal().Records().size());
    });
    RETURN_IF_ERROR(model.parameters().Materialize(*device, DType::kF64, 1));
    AllReduceExchange exchange(model.parameters(), *device, world, {4, 1, /*bucket_bytes=*/1});
    Executor executor(model, {});
    const auto load = [&](const WorkItem& item) { return LoadOnes(*device, item); };
    const int64_t before = static_cast<int64_t>(world.journal().Records().size());
    auto round = executor.Run(exchange.Plan(0), load, {}, exchange);
    RETURN_IF_ERROR(round.status());
    // The probes ran for both micro-batches; the second overwrote what the first saw.
    EXPECT_EQ(started_before[3] - before, 0);
    EXPECT_EQ(started_before[2] - before, 1);
    EXPECT_EQ(started_before[0] - before, 3);
    return exchange.Finish(round->losses).status();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(ExecutorTest, MicroBatchesAndRecomputationChangeNothing) {
  std::vector<double> expected;
  for (const bool recompute : {false, true}) {
    for (const int64_t micro : {0, 1, 2, 3}) {
      auto device = MakeCpuDevice();
      auto world = MakeSelfCommunicator();
      Chain model([](int) {});
      ASSERT_TRUE(model.parameters().Materialize(*device, DType::kF64, 1).ok());
      AllReduceExchange exchange(model.parameters(), *device, *world, {6, micro, 1 << 20});
      Executor executor(model, {.recompute = recompute});
      const auto load = [&](const WorkItem& item) { return LoadOnes(*device, item); };
      auto round = executor.Run(exchange.Plan(0), load, {}, exchange);
      ASSERT_TRUE(round.ok()) << round.status();
      auto jobs = exchange.Finish(round->losses);
      ASSERT_TRUE(jobs.ok());
      EXPECT_EQ((*jobs)[0].loss.count, 6);
      const std::vector<double> gradients = (*jobs)[0].gradients->All().ToVector();
      if (expected.empty()) expected = gradients;
      for (size_t i = 0; i < gradients.size(); ++i) EXPECT_NEAR(gradients[i], expected[i], 1e-12);
    }
  }
}

TEST(ExecutorTest, AWeightScalesLossAndGradient) {
  auto device = MakeCpuDevice();
  auto world = MakeSelfCommunicator();
  Chain model([](int) {});
  ASSERT_TRUE(model.parameters().Materialize(*device, DType::kF64, 1).ok());
  AllReduceExchange exchange(model.parameters(), *device, *world, {2, 0, 1 << 20});
  Executor executor(model, {});
  const auto load = [&](const WorkItem& item) { return LoadOnes(*device, item); };
  std::vector<WorkItem> items = exchange.Plan(0);
  auto plain = executor.Run(items, load, {}, exchange);
  ASSERT_TRUE(plain.ok());
  const std::vector<double> once = exchange.gradients().All().ToVector();
  items[0].weight = -2.5;
  auto weighted = executor.Run(items, load, {}, exchange);
  ASSERT_TRUE(weighted.ok());
  EXPECT_DOUBLE_EQ(weighted->losses[0].sum, -2.5 * plain->losses[0].sum);
  const std::vector<double> scaled = exchange.gradients().All().ToVector();
  for (size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(scaled[i], -2.5 * once[i], 1e-12);
}

TEST(ExecutorTest, AFailureInTheMiddleIsAStatus) {
  auto device = MakeCpuDevice();
  auto world = MakeSelfCommunicator();
  Chain model([](int unit) {
    if (unit == 1) throw Failure(absl::DataLossError("unit 1 broke"));
  });
  ASSERT_TRUE(model.parameters().Materialize(*device, DType::kF64, 1).ok());
  AllReduceExchange exchange(model.parameters(), *device, *world, {2, 0, 1 << 20});
  Executor executor(model, {});
  const auto load = [&](const WorkItem& item) { return LoadOnes(*device, item); };
  EXPECT_EQ(executor.Run(exchange.Plan(0), load, {}, exchange).status().message(), "unit 1 broke");
  const auto no_load = [&](const WorkItem&) -> StatusOr<Batch> {
    return absl::NotFoundError("gone");
  };
  EXPECT_EQ(executor.Run(exchange.Plan(0), no_load, {}, exchange).status().message(), "gone");
}

}  // namespace
}  // namespace trireme
