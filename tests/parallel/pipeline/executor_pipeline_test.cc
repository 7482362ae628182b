// The executor on the ranks of a pipeline: every schedule gives the gradients of one rank, sends
// what its plan says, holds what its plan says, and ends when a rank fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/base/log.h"
#include "core/module/scope.h"
#include "core/ops/devices.h"
#include "core/ops/ops.h"
#include "parallel/comm/local.h"
#include "parallel/pipeline/executor.h"
#include "parallel/pipeline/simulate.h"
#include "parallel/pipeline/verify.h"
#include "parallel/sync/all_reduce_exchange.h"

namespace trireme {
namespace {

constexpr int kRanks = 4, kItems = 8;
constexpr int64_t kRows = 64, kWidth = 8, kInner = 128;
constexpr int64_t kMessage = kRows * kWidth * 8, kInnerBytes = kRows * kInner * 8;
// What a block keeps: its input, two products and what silu makes of them, its output. After I, the
// gradients that W needs are as large as what I let go.
constexpr int64_t kBlock = 4 * kInnerBytes + 2 * kMessage;

using BeforeFn = std::function<void(int unit, int64_t sample)>;

// Equal blocks down silu(middle silu(up x)), then a unit that is next to nothing: the sum.
class Blocks : public Model {
 public:
  Blocks(int num_blocks, BeforeFn before) : num_blocks_(num_blocks), before_(std::move(before)) {
    for (int i = 0; i < num_blocks; ++i) {
      const Scope scope = Scope(parameters()).InUnit(i).Child(absl::StrCat(i));
      up_.push_back(scope.Declare("up", {kInner, kWidth}, Init::Normal(0.3)));
      middle_.push_back(scope.Declare("middle", {kInner, kInner}, Init::Normal(0.1)));
      down_.push_back(scope.Declare("down", {kWidth, kInner}, Init::Normal(0.1)));
    }
  }
  int num_units() const override { return num_blocks_ + 1; }
  Shape HiddenShape(int, int64_t) const override { return {kRows, kWidth}; }
  Tensor RunUnit(int unit, const Tensor& hidden, const Batch& batch,
                 const ForwardContext& context) override {
    if (before_ != nullptr) before_(unit, context.layout.segments[0].sample);
    if (unit == num_blocks_) return Sum(hidden);
    const Tensor x = unit == 0 ? batch.inputs : hidden;
    const Tensor y = Silu(Linear(x, up_[unit]->working));
    return Linear(Silu(Linear(y, middle_[unit]->working)), down_[unit]->working);
  }

 private:
  const int num_blocks_;
  const BeforeFn before_;
  std::vector<const Parameter*> up_, middle_, down_;
};

StatusOr<Batch> Load(Device& device, const WorkItem& item) {
  Batch batch;
  const double value = 0.1 * (1 + static_cast<double>(item.samples[0]));
  batch.inputs = Tensor::Full(device, {kRows, kWidth}, DType::kF64, value);
  batch.num_targets = kRows;
  batch.layout.segments = {{item.samples[0], 0, 1}};
  return batch;
}

struct Outcome {
  double loss = 0;
  std::map<std::string, std::vector<double>> gradients;  // Of this rank, by path.
  int64_t peak_activations = 0;
  int64_t sent_activations = 0, sent_gradients = 0;
};

// One round of a rank; `world`: the pipeline.
Status RunRound(const Plan& plan, const std::string& schedule, Communicator& world, int num_blocks,
                const BeforeFn& before, Outcome* outcome) {
  auto device = MakeCpuDevice({.num_threads = 1});
  auto replica = MakeSelfCommunicator();
  Blocks model(num_blocks, before);
  PipelineOptions pipeline;
  pipeline.pipeline = world.size() == 1 ? nullptr : &world;
  pipeline.schedule = schedule;
  pipeline.units_of_stage = std::vector<int>(plan.num_stages(), 1);
  const auto rank_of = [&](int unit) {
    return plan.rank_of_stage[std::min(unit, plan.num_stages() - 1)];
  };
  if (world.size() == 1) pipeline.units_of_stage = {num_blocks};
  ++pipeline.units_of_stage.back();
  if (world.size() > 1) {
    model.parameters().KeepUnits([&](int unit) { return rank_of(unit) == world.rank(); });
  }
  RETURN_IF_ERROR(model.parameters().Materialize(*device, DType::kF64, 1));
  ReplicaGroups inside;
  if (world.size() > 1) inside.losses = &world;
  AllReduceExchange exchange(model.parameters(), *device, *replica, inside, 0, 1,
                             {kItems, 1, 1 << 20});
  Executor executor(model, {}, pipeline);
  device->ResetPeaks();
  const auto load = [&](const WorkItem& item) { return Load(*device, item); };
  ASSIGN_OR_RETURN(const RoundReport round, executor.Run(exchange.Plan(0), load, {}, exchange));
  const auto kind = static_cast<size_t>(MemoryKind::kActivations);
  outcome->peak_activations = device->stats().peak_bytes[kind];
  for (const auto& [key, bytes] : world.journal().SentBytes()) {
    if (key.second == "activations") outcome->sent_activations += bytes;
    if (key.second == "activation gradients") outcome->sent_gradients += bytes;
  }
  ASSIGN_OR_RETURN(const auto jobs, exchange.Finish(round.losses));
  outcome->loss = jobs[0].loss.sum;
  for (size_t i = 0; i < model.parameters().parameters().size(); ++i) {
    outcome->gradients[model.parameters().parameters()[i]->spec.path] =
        exchange.gradients().of(static_cast<int>(i)).ToVector();
  }
  return absl::OkStatus();
}

class ExecutorPipelineTest : public ::testing::TestWithParam<std::string> {
 protected:
  // num_ranks ranks run the schedule; one alone runs the same blocks.
  std::vector<Outcome> Outcomes(int num_ranks, const BeforeFn& before = nullptr) {
    const Plan plan = PlanOf();
    std::vector<Outcome> outcomes(num_ranks);
    const Status status = RunOnRanks(num_ranks, {}, [&](Communicator& world) {
      return RunRound(plan, GetParam(), world, plan.num_stages(), before, &outcomes[world.rank()]);
    });
    EXPECT_TRUE(status.ok()) << status;
    return outcomes;
  }
  Plan PlanOf() { return *MakePlan(GetParam(), kRanks, kItems); }
};

std::vector<std::string> ScheduleNames() {
  std::vector<std::string> names;
  for (const auto& entry : PipelineSchedules()) names.push_back(entry.name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Schedules, ExecutorPipelineTest, ::testing::ValuesIn(ScheduleNames()),
                         [](const auto& info) { return info.param; });

TEST_P(ExecutorPipelineTest, GradientsAreThoseOfOneRank) {
  const Plan plan = PlanOf();
  Outcome one;
  auto world = MakeSelfCommunicator();
  ASSERT_TRUE(RunRound(plan, "gpipe", *world, plan.num_stages(), nullptr, &one).ok());
  size_t seen = 0;
  for (const Outcome& outcome : Outcomes(kRanks)) {
    EXPECT_NEAR(outcome.loss, one.loss, 1e-12 * std::abs(one.loss));
    for (const auto& [path, gradient] : outcome.gradients) {
      const std::vector<double>& expected = one.gradients.at(path);
      for (size_t i = 0; i < gradient.size(); ++i)
        ASSERT_NEAR(gradient[i], expected[i], 1e-11) << path;
      ++seen;
    }
  }
  EXPECT_EQ(seen, one.gradients.size());
}

// A message for each micro-batch and each boundary between stages of different ranks.
TEST_P(ExecutorPipelineTest, SendsAMessageForEachBoundaryAndMicroBatch) {
  const Plan plan = PlanOf();
  const std::vector<Outcome> outcomes = Outcomes(kRanks);
  for (int rank = 0; rank < kRanks; ++rank) {
    int64_t down = 0, up = 0;
    for (int stage = 0; stage + 1 < plan.num_stages(); ++stage) {
      const int from = plan.rank_of_stage[stage], to = plan.rank_of_stage[stage + 1];
      if (from == to) continue;
      down += from == rank;
      up += to == rank;
    }
    EXPECT_EQ(outcomes[rank].sent_activations, down * kItems * kMessage) << rank;
    EXPECT_EQ(outcomes[rank].sent_gradients, up * kItems * kMessage) << rank;
  }
}

// On top of the blocks in flight: in a backward, two gradients of inner tensors in the making;
// messages that come early or leave late.
TEST_P(ExecutorPipelineTest, PeakActivationsAreThoseInFlight) {
  constexpr int64_t kTransient = 2 * kInnerBytes + 16 * kMessage;
  static_assert(kTransient < kBlock, "one more block in flight would pass");
  const Plan plan = PlanOf();
  const Simulation simulation = Simulate(Lower(plan));
  const std::vector<Outcome> outcomes = Outcomes(kRanks);
  for (int rank = 0; rank < kRanks; ++rank) {
    const int64_t held =
        std::llround(simulation.ranks[rank].peak_in_flight * plan.num_chunks) * kBlock;
    EXPECT_GE(outcomes[rank].peak_activations, held) << "rank " << rank;
    EXPECT_LE(outcomes[rank].peak_activations, held + kTransient) << "rank " << rank;
  }
}

// A unit of one rank raises an error at its third micro-batch: every rank ends, with that error.
TEST_P(ExecutorPipelineTest, AFailureOfOneRankEndsAll) {
  const Plan plan = PlanOf();
  for (const int failing_stage : {0, plan.num_stages() / 2, plan.num_stages() - 1}) {
    const auto before = [&](int unit, int64_t sample) {
      if (unit == failing_stage && sample == 2)
        throw Failure(absl::DataLossError("the unit broke"));
    };
    int ended = 0;
    std::mutex mutex;
    const absl::Time begin = absl::Now();
    const Status status = RunOnRanks(kRanks, {}, [&](Communicator& world) {
      Outcome outcome;
      const Status status = RunRound(plan, GetParam(), world, plan.num_stages(), before, &outcome);
      EXPECT_FALSE(status.ok());
      const std::lock_guard<std::mutex> lock(mutex);
      ++ended;
      return status;
    });
    EXPECT_EQ(ended, kRanks);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("the unit broke"));
    EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  }
}

}  // namespace
}  // namespace trireme
