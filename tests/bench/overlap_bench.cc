// How much a step grows when its gradients are exchanged over a slow link while backward runs:
// steps with the exchange and steps without it, in turns, on two replicas, the best of each. One
// JSON line. slow_link.sh starts it.
//   mpirun -n 2 build-release/bench/overlap_bench --rate    the bits a second to give the link
//   mpirun -n 2 build-release/bench/overlap_bench STEPS
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/base/params.h"
#include "launch/bootstrap.h"
#include "launch/catalogue.h"
#include "launch/config.h"
#include "launch/trainer.h"
#include "parallel/comm/local.h"

namespace trireme::bench {
namespace {

// Of backward's time, what the gradients take on the link.
constexpr double kShareOfBackward = 0.45;
constexpr int kWarmUpSteps = 4;

constexpr char kConfig[] = R"(
  run_dir: "unused"
  model {
    name: "transformer" width: 384 num_layers: 6 mlp_width: 1024 layers: "S"
    S { name: "softmax" heads: 6 }
  }
  data { dataset { name: "synthetic" vocabulary_size: 512 num_tokens: 200000 } sequence_length: 256 }
  num_steps: 1000
  lr_schedule { name: "constant" }
  learning_rate: 1e-4
  bucket_bytes: 2000000
)";
constexpr int kSamples = 4;  // Of each replica.

StatusOr<RunConfig> ConfigOf(int64_t replicas) {
  ASSIGN_OR_RETURN(LoadedConfig loaded,
                   ParseConfig("overlap_bench", kConfig,
                               {absl::StrCat("batch.global_batch_size=", kSamples * replicas)}));
  RETURN_IF_ERROR(ResolveConfig(replicas, Catalogue(), &loaded));
  return loaded.config;
}

double Best(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

// A trainer and the seconds of its steps.
struct Contender {
  std::unique_ptr<PhaseTimer> phases = std::make_unique<PhaseTimer>();
  std::unique_ptr<Trainer> trainer;
  std::vector<double> steps, backwards;
};

class Bench {
 public:
  explicit Bench(const RankContext& rank)
      : world_(rank.world), device_(rank.device), self_(MakeSelfCommunicator()) {}

  Status Run(bool rate_only, int num_steps) {
    ASSIGN_OR_RETURN(Contender alone, Make(*self_));
    for (int i = 0; i < kWarmUpSteps; ++i) RETURN_IF_ERROR(Step(alone));
    // Two replicas: each sends as many bytes as the gradient has.
    const int64_t bytes = alone.trainer->model().parameters().num_elements() * sizeof(float);
    if (rate_only) {
      const double seconds = kShareOfBackward * Best(alone.backwards);
      if (world_.rank() == 0) std::printf("%.0f\n", 8 * static_cast<double>(bytes) / seconds);
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(Contender together, Make(world_));
    RETURN_IF_ERROR(Step(together));
    together.steps.clear();
    for (int i = 0; i < num_steps; ++i) {
      RETURN_IF_ERROR(Step(alone));
      RETURN_IF_ERROR(Step(together));
    }
    ASSIGN_OR_RETURN(const double link, SecondsOnTheLink(bytes));
    if (world_.rank() == 0) {
      std::printf(
          "{\"bench\":\"overlap\",\"gradient_bytes\":%lld,\"link_ms\":%.0f,\"backward_ms\":%.0f,"
          "\"step_ms_without_exchange\":%.0f,\"step_ms_with\":%.0f,\"ratio\":%.3f,\"steps\":%d}\n",
          static_cast<long long>(bytes), 1e3 * link, 1e3 * Best(alone.backwards),
          1e3 * Best(alone.steps), 1e3 * Best(together.steps),
          Best(together.steps) / Best(alone.steps), num_steps);
    }
    return absl::OkStatus();
  }

 private:
  StatusOr<Contender> Make(Communicator& replicas) {
    ASSIGN_OR_RETURN(const RunConfig config, ConfigOf(replicas.size()));
    if (dataset_ == nullptr) {
      const ComponentConfig data = ToComponentConfig(config.data().dataset());
      ASSIGN_OR_RETURN(dataset_,
                       MakeDataset(data.name, data.params, {config.data().sequence_length()}));
    }
    Contender contender;
    ASSIGN_OR_RETURN(contender.trainer,
                     Trainer::Create(config, *dataset_, replicas, device_, *contender.phases));
    return contender;
  }

  // From a common start to the end of the slower rank.
  Status Step(Contender& contender) {
    RETURN_IF_ERROR(world_.Barrier({.purpose = "start"})->Wait());
    const absl::Duration before = contender.phases->total(Phase::kBackward);
    const absl::Time start = absl::Now();
    RETURN_IF_ERROR(contender.trainer->Step().status());
    const double mine = absl::ToDoubleSeconds(absl::Now() - start);
    contender.backwards.push_back(
        absl::ToDoubleSeconds(contender.phases->total(Phase::kBackward) - before));
    return CatchFailure([&] {
      const Tensor slowest = Tensor::FromHost<double>(device_, {1}, {&mine, 1});
      ThrowIfError(world_.AllReduce(slowest, {.purpose = "time", .op = ReduceOp::kMax})->Wait());
      contender.steps.push_back(slowest.Item());
    });
  }

  // Of an exchange of the whole gradient and nothing else.
  StatusOr<double> SecondsOnTheLink(int64_t bytes) {
    absl::Duration spent;
    RETURN_IF_ERROR(CatchFailure([&] {
      const Tensor gradient = Tensor::Zeros(device_, {bytes / 4}, DType::kF32);
      ThrowIfError(world_.Barrier({.purpose = "start"})->Wait());
      const absl::Time start = absl::Now();
      ThrowIfError(world_.AllReduce(gradient, {.purpose = "link"})->Wait());
      spent = absl::Now() - start;
    }));
    return absl::ToDoubleSeconds(spent);
  }

  Communicator& world_;
  Device& device_;
  const std::unique_ptr<Communicator> self_;
  std::unique_ptr<Dataset> dataset_;
};

int Main(const std::vector<std::string>& args) {
  const StatusOr<LaunchPlan> plan = PlanLaunch({}, ReadLaunchedWorld());
  if (!plan.ok()) return UsageError(plan.status());
  const bool rate_only = !args.empty() && args[0] == "--rate";
  int64_t num_steps = 5;
  if (!rate_only && !args.empty() && (!ParseInt(args[0], &num_steps) || num_steps < 1)) {
    return UsageError(absl::InvalidArgumentError("overlap_bench [--rate | STEPS]"));
  }
  WorldOptions options;
  options.threads = 1;
  return RunWorld(*plan, absl::OkStatus(), options, [&](const RankContext& rank) {
    return Bench(rank).Run(rate_only, static_cast<int>(num_steps));
  });
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  return trireme::bench::Main(std::vector<std::string>(argv + 1, argv + argc));
}
