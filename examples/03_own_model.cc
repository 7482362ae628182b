// A model and a loss of your own, trained on four ranks. Copy this file to start.
#include <cmath>
#include <cstdio>

#include "trireme.h"

using namespace trireme;

// Learns y = sin(3 x) with one hidden layer. A unit is the grain at which gradients travel.
class SineModel : public Model {
 public:
  SineModel() {
    const Scope root(parameters());
    in_ = root.InUnit(0).Declare("in", {64, 1}, Init::Normal(2));
    bias_ = root.InUnit(0).Declare("bias", {64}, Init::Normal(1));
    out_ = root.InUnit(1).Declare("out", {1, 64}, Init::Normal(0.1));
  }
  int num_units() const override { return 2; }
  Tensor RunUnit(int unit, const Tensor& hidden, const Batch& batch,
                 const ForwardContext&) override {
    const Tensor x = Slice(batch.inputs, 1, 0, 1), y = Slice(batch.inputs, 1, 1, 1);
    if (unit == 0) return Tanh(Linear(x, in_->working, bias_->working));
    const Tensor error = Sub(Linear(hidden, out_->working), y);
    return Sum(Mul(error, error));
  }

 private:
  const Parameter *in_, *bias_, *out_;
};

int main() {
  const Status status = RunOnRanks(4, {}, [](Communicator& world) -> Status {
    const auto cpu = MakeCpuDevice();
    SineModel model;
    RETURN_IF_ERROR(model.parameters().Materialize(*cpu, DType::kF32, /*seed=*/1));
    ASSIGN_OR_RETURN(auto adamw, MakeOptimizer("adamw", {{"weight_decay", "0"}}));
    ASSIGN_OR_RETURN(auto update,
                     ParameterUpdate::Create(model.parameters(), {{"*", std::move(adamw)}}));
    AllReduceExchange exchange(model.parameters(), *cpu, world, {.global_batch_size = 64});
    Executor executor(model, {});
    // Sample i is a point (x, sin(3 x)); the same one whichever rank asks.
    const auto load = [&](const WorkItem& item) -> StatusOr<Batch> {
      std::vector<double> points;
      for (const int64_t i : item.samples) {
        const double x = 2 * UniformAt(MakeRngKey(7, "points"), i) - 1;
        points.insert(points.end(), {x, std::sin(3 * x)});
      }
      Batch batch;
      batch.num_targets = item.samples.size();
      batch.inputs = Tensor::FromVector(*cpu, {batch.num_targets, 2}, points, DType::kF32);
      return batch;
    };
    for (int64_t step = 1; step <= 300; ++step) {
      ASSIGN_OR_RETURN(const auto round, executor.Run(exchange.Plan(step), load, {}, exchange));
      ASSIGN_OR_RETURN(const auto jobs, exchange.Finish(round.losses));
      const LossSum& loss = jobs[0].loss;
      update.Step(*jobs[0].gradients, /*learning_rate=*/0.01, /*grad_scale=*/1.0 / loss.count);
      if (world.rank() == 0 && step % 100 == 0) {
        std::printf("step %d loss %.5f\n", static_cast<int>(step), loss.sum / loss.count);
      }
    }
    return absl::OkStatus();
  });
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
