// What the executor costs besides the kernels: microseconds an action of a model whose units
// multiply one number by another, kernels, graph and messages included. On two ranks, the slower
// one's.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/base/log.h"
#include "core/module/scope.h"
#include "core/ops/devices.h"
#include "core/ops/ops.h"
#include "parallel/comm/local.h"
#include "parallel/pipeline/executor.h"
#include "parallel/sync/all_reduce_exchange.h"

namespace trireme::bench {
namespace {

constexpr int kMicroBatches = 32;

class TinyModel : public Model {
 public:
  explicit TinyModel(int num_units) {
    for (int unit = 0; unit < num_units; ++unit) {
      factors_.push_back(Scope(parameters())
                             .InUnit(unit)
                             .Declare(absl::StrCat("w", unit), {1}, Init::Constant(1)));
    }
  }
  int num_units() const override { return static_cast<int>(factors_.size()); }
  Shape HiddenShape(int, int64_t n) const override { return {n}; }
  Tensor RunUnit(int unit, const Tensor& hidden, const Batch& batch,
                 const ForwardContext&) override {
    const Tensor y = Mul(unit == 0 ? batch.inputs : hidden, factors_[unit]->working);
    return unit + 1 == num_units() ? Sum(y) : y;
  }

 private:
  std::vector<const Parameter*> factors_;
};

struct Case {
  const char* schedule;
  int num_ranks;
  int stages_of_rank;
};

// Rounds until the benchmark has enough, on every rank; rank 0 says when.
Status RunRounds(const Case& c, Communicator& world, benchmark::State& state) {
  const auto device = MakeCpuDevice({.num_threads = 1});
  const int num_stages = c.num_ranks * c.stages_of_rank;
  TinyModel model(num_stages);
  RETURN_IF_ERROR(model.parameters().Materialize(*device, DType::kF32, /*seed=*/1));
  const auto self = MakeSelfCommunicator();
  AllReduceExchange exchange(model.parameters(), *device, *self,
                             {.global_batch_size = kMicroBatches, .micro_batch_size = 1});
  PipelineOptions pipeline;
  if (c.num_ranks > 1) pipeline.pipeline = &world;
  pipeline.schedule = c.schedule;
  pipeline.units_of_stage.assign(num_stages, 1);
  Executor executor(model, {}, pipeline);
  Batch batch;
  batch.inputs = Tensor::Full(*device, {1}, DType::kF32, 1);
  batch.num_targets = 1;
  const auto load = [&](const WorkItem&) -> StatusOr<Batch> { return batch; };
  const auto round = [&]() -> Status {
    RETURN_IF_ERROR(executor.Run(exchange.Plan(0), load, {}, exchange).status());
    return exchange.Finish({}).status();
  };
  RETURN_IF_ERROR(round());
  if (world.rank() != 0) {
    for (int64_t i = 0; i < state.max_iterations; ++i) RETURN_IF_ERROR(round());
    return absl::OkStatus();
  }
  const absl::Time start = absl::Now();
  for (auto _ : state) RETURN_IF_ERROR(round());
  const double actions = static_cast<double>(state.iterations()) * kMicroBatches *
                         c.stages_of_rank *
                         (absl::string_view(c.schedule).substr(0, 2) == "zb" ? 3 : 2);
  state.counters["us_per_action"] = absl::ToDoubleMicroseconds(absl::Now() - start) / actions;
  return absl::OkStatus();
}

void BM_Action(benchmark::State& state, const Case& c) {
  const Status status =
      RunOnRanks(c.num_ranks, {}, [&](Communicator& world) { return RunRounds(c, world, state); });
  CHECK(status.ok()) << status;
}
BENCHMARK_CAPTURE(BM_Action, one_rank_1f1b, Case{"1f1b", 1, 1});
BENCHMARK_CAPTURE(BM_Action, one_rank_zb_v, Case{"zb_v", 1, 2});
BENCHMARK_CAPTURE(BM_Action, two_ranks_1f1b, Case{"1f1b", 2, 1});
BENCHMARK_CAPTURE(BM_Action, two_ranks_zb_v, Case{"zb_v", 2, 2});

}  // namespace
}  // namespace trireme::bench

BENCHMARK_MAIN();
