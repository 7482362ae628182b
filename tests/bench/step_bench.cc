// The training step of a small transformer against the time of its own matrix products, called
// directly in the same run: one JSON line per setting.
//
//   build-release/tests/bench/step_bench [--dtype f32|bf16] [--threads N] [--steps N] [--recompute]
//
// Model: width 512, 8 heads, SwiGLU 1408, 6 layers, vocabulary 8192, untied head; 8 samples of 512
// tokens; AdamW. FLOPs count attention with half its square, and no recomputation.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/base/log.h"
#include "core/ops/devices.h"
#include "launch/catalogue.h"
#include "launch/config.h"
#include "launch/trainer.h"
#include "parallel/comm/local.h"
#include "tests/bench/direct_gemm.h"
#include "tests/bench/kernel_times.h"

namespace trireme::bench {
namespace {

constexpr char kConfig[] = R"(
  run_dir: "unused"
  model {
    name: "transformer" width: 512 num_layers: 6 mlp_width: 1408 layers: "S"
    S { name: "softmax" heads: 8 }
  }
  data {
    dataset {
      name: "synthetic" vocabulary_size: 8192 num_tokens: 200000 max_document_tokens: 2000000000
      validation_fraction: 0
    }
    sequence_length: 512
  }
  batch { global_batch_size: 8 }
  num_steps: 1000
  optimizer { name: "adamw" }
  lr_schedule { name: "constant" }
  learning_rate: 0.0003
)";
constexpr int64_t kTokens = 8 * 512;

double Seconds(absl::FunctionRef<void()> fn) {
  const absl::Time start = absl::Now();
  fn();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// One product of the step, how often a step has it, and the best time of each library so far.
struct StepGemm {
  GemmShape shape;
  int count;
  std::unique_ptr<DirectGemm> gemm;
  std::vector<double> seconds[2];
};

// y = x w^T, dx = dy w, dw = dy^T x of a weight [out, in].
void AddLinear(int64_t out, int64_t in, int count, bool bf16, std::vector<StepGemm>& gemms) {
  const GemmShape shapes[] = {
      {kTokens, out, in, false, true}, {kTokens, in, out}, {out, in, kTokens, true, false, true}};
  for (const GemmShape& shape : shapes) {
    gemms.push_back({shape, count, std::make_unique<DirectGemm>(shape, bf16), {}});
  }
}

std::vector<StepGemm> StepGemms(bool bf16) {
  std::vector<StepGemm> gemms;
  AddLinear(512, 512, 6 * 4, bf16, gemms);
  AddLinear(1408, 512, 6 * 2, bf16, gemms);
  AddLinear(512, 1408, 6, bf16, gemms);
  AddLinear(8192, 512, 1, bf16, gemms);
  return gemms;
}

void TimeGemms(std::vector<StepGemm>& gemms) {
  for (StepGemm& g : gemms) {
    for (const Library library : {Library::kOpenBlas, Library::kOneDnn}) {
      if (!g.gemm->Has(library)) continue;
      g.seconds[static_cast<int>(library)].push_back(Seconds([&] { g.gemm->Run(library); }));
    }
  }
}

// The sum over the products of a step of the better library's median.
double GemmSeconds(const std::vector<StepGemm>& gemms, double* flops) {
  double sum = 0;
  *flops = 0;
  for (const StepGemm& g : gemms) {
    double best = 1e30;
    for (const auto& seconds : g.seconds) {
      if (!seconds.empty()) best = std::min(best, Median(seconds));
    }
    sum += g.count * best;
    *flops += g.count * g.shape.flops();
  }
  return sum;
}

// How much faster `threads` threads get through plain products than one: each runs the same product
// by itself, so nothing is shared but the machine.
double GemmSpeedup(int threads, bool bf16) {
  const GemmShape shape{kTokens, 1408, 512, false, true};
  std::vector<std::unique_ptr<DirectGemm>> gemms;
  for (int i = 0; i < threads; ++i) gemms.push_back(std::make_unique<DirectGemm>(shape, bf16));
  const auto seconds = [&](int count) {
    std::vector<double> rounds;
    for (int round = 0; round < 5; ++round) {
      rounds.push_back(Seconds([&] {
        std::vector<std::thread> workers;
        for (int i = 0; i < count; ++i) {
          workers.emplace_back([&gemm = *gemms[i]] {
            for (int k = 0; k < 10; ++k) gemm.Run(Library::kOneDnn);
          });
        }
        for (std::thread& worker : workers) worker.join();
      }));
    }
    return Median(rounds);
  };
  const double one = seconds(1);
  return threads * one / seconds(threads);
}

struct Flags {
  std::string dtype = "f32";
  int threads = 1;
  int steps = 5;
  bool recompute = false;
  bool kernels = false;
};

void PrintKernels(const KernelTimes& times, int steps, double step_seconds) {
  std::vector<std::pair<std::string, KernelTime>> rows(times.begin(), times.end());
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  double sum = 0;
  std::fprintf(stderr, "%9s %7s %7s %9s  kernel\n", "ms/step", "share", "calls", "GFLOP/s");
  for (const auto& [name, time] : rows) {
    sum += time.seconds / steps;
    std::fprintf(stderr, "%9.1f %6.1f%% %7lld %9.1f  %s\n", time.seconds / steps * 1e3,
                 100 * time.seconds / steps / step_seconds,
                 static_cast<long long>(time.calls / steps), time.flops / time.seconds / 1e9,
                 name.c_str());
  }
  std::fprintf(stderr, "%9.1f %6.1f%% %7s %9s  outside kernels\n", (step_seconds - sum) * 1e3,
               100 * (1 - sum / step_seconds), "", "");
}

Status Run(const Flags& flags) {
  ASSIGN_OR_RETURN(LoadedConfig loaded,
                   ParseConfig("step_bench", kConfig, {absl::StrCat("dtype=", flags.dtype)}));
  loaded.config.set_recompute(flags.recompute);
  RETURN_IF_ERROR(ResolveConfig(1, Catalogue(), &loaded));
  const RunConfig& config = loaded.config;
  KernelTimes times;
  const CpuOptions options{.num_threads = flags.threads};
  const std::unique_ptr<CpuDevice> device =
      flags.kernels ? MakeTimedCpuDevice(options, &times) : MakeCpuDevice(options);
  const auto world = MakeSelfCommunicator();
  const ComponentConfig data = ToComponentConfig(config.data().dataset());
  ASSIGN_OR_RETURN(const auto dataset,
                   MakeDataset(data.name, data.params, {config.data().sequence_length()}));
  PhaseTimer phases;
  ASSIGN_OR_RETURN(const auto trainer, Trainer::Create(config, *dataset, *world, *device, phases));
  RETURN_IF_ERROR(trainer->Step().status());
  RETURN_IF_ERROR(trainer->Step().status());
  const int64_t system_allocations = device->stats().system_allocations;
  times.clear();

  const bool bf16 = flags.dtype == "bf16";
  std::vector<StepGemm> gemms = StepGemms(bf16);
  DirectGemm cube({2048, 2048, 2048}, bf16);
  std::vector<double> step_seconds, cube_seconds;
  double flops = 0;
  PhaseTimer measured;
  for (int i = 0; i < flags.steps; ++i) {
    Status status;
    step_seconds.push_back(Seconds([&] {
      auto report = trainer->Step();
      status = report.status();
      if (report.ok()) flops = report->flops;
    }));
    RETURN_IF_ERROR(status);
    TimeGemms(gemms);
    for (const Library library : {Library::kOpenBlas, Library::kOneDnn}) {
      if (cube.Has(library)) cube_seconds.push_back(Seconds([&] { cube.Run(library); }));
    }
  }
  const double step = Median(step_seconds);
  double gemm_flops;
  const double gemm = GemmSeconds(gemms, &gemm_flops);
  const double cube_rate =
      2.0 * 2048 * 2048 * 2048 / *std::min_element(cube_seconds.begin(), cube_seconds.end());
  std::printf(
      "{\"bench\":\"step\",\"dtype\":\"%s\",\"threads\":%d,\"recompute\":%s,"
      "\"tokens_per_second\":%.1f,\"step_seconds\":%.4f,\"best_step_seconds\":%.4f,"
      "\"step_gflops\":%.1f,\"gemm_seconds\":%.4f,\"gemm_gflops\":%.1f,\"step_over_gemms\":%.3f,"
      "\"gemm_thread_speedup\":%.3f,\"cube_gflops\":%.1f,\"share_of_cube\":%.3f,\"new_system_"
      "allocations\":%lld}\n",
      flags.dtype.c_str(), flags.threads, flags.recompute ? "true" : "false", kTokens / step, step,
      *std::min_element(step_seconds.begin(), step_seconds.end()), flops / step / 1e9, gemm,
      gemm_flops / gemm / 1e9, step / gemm, GemmSpeedup(flags.threads, bf16), cube_rate / 1e9,
      flops / step / cube_rate,
      static_cast<long long>(device->stats().system_allocations - system_allocations));
  if (flags.kernels) {
    const double sum = std::accumulate(step_seconds.begin(), step_seconds.end(), 0.0);
    PrintKernels(times, flags.steps, sum / flags.steps);
  }
  std::fprintf(stderr, "%s\n%s", phases.Summary().c_str(),
               FormatMemoryStats(device->stats()).c_str());
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const bool has_value = i + 1 < argc;
    if (flag == "--recompute") {
      flags.recompute = true;
    } else if (flag == "--kernels") {
      flags.kernels = true;
    } else if (flag == "--dtype" && has_value) {
      flags.dtype = argv[++i];
    } else if (flag == "--threads" && has_value) {
      flags.threads = std::atoi(argv[++i]);
    } else if (flag == "--steps" && has_value) {
      flags.steps = std::atoi(argv[++i]);
    } else {
      std::fprintf(
          stderr, "usage: step_bench [--dtype f32|bf16] [--threads N] [--steps N] [--recompute]\n");
      return 2;
    }
  }
  const Status status = Run(flags);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) { return trireme::bench::Main(argc, argv); }
