// A device by classes of kernels, and the training step of a model like GPT-2 small on it. Each
// class is held against what the device did in the same run: bytes against a plain copy, FLOPs
// against a large product. One JSON line each; `make bench-cuda`.
//
//   build-release/tests/bench/device_bench [--device cuda|cpu|...] [--dtype bf16|f32] [--tokens N]
//
// Model: width 768, 12 heads, SwiGLU 2048, 12 layers, vocabulary 50257, sequences of 1024; AdamW.
// FLOPs count attention with half its square.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/ops/devices.h"
#include "core/ops/ops.h"
#include "launch/catalogue.h"
#include "launch/config.h"
#include "launch/rank_device.h"
#include "launch/trainer.h"
#include "parallel/comm/local.h"

namespace trireme::bench {
namespace {

constexpr int64_t kWidth = 768, kHeads = 12, kMlp = 2048, kVocabulary = 50257, kSequence = 1024;

struct Flags {
  std::string device = "cuda", dtype = "bf16";
  int64_t tokens = 16 * kSequence;
};

// Of one call, from the fastest of several rounds of calls that are queued together.
double Seconds(Device& device, const std::function<void()>& call) {
  call();
  CHECK_OK(device.Synchronize());
  double best = 1e30;
  int64_t calls = 1;
  for (int round = 0; round < 7; ++round) {
    const absl::Time start = absl::Now();
    for (int64_t i = 0; i < calls; ++i) call();
    CHECK_OK(device.Synchronize());
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    best = std::min(best, seconds / calls);
    if (seconds < 0.02) calls *= 4;
  }
  return best;
}

class Classes {
 public:
  Classes(Device& device, DType dtype) : device_(device), dtype_(dtype) {
    const int64_t n = int64_t{64} << 20;
    const Tensor a = Tensor::Zeros(device, {n}, DType::kF32),
                 b = Tensor::Zeros(device, {n}, DType::kF32);
    bytes_per_second_ = 8.0 * n / Seconds(device, [&] { b.CopyFrom(a); });
    const int64_t side = device.name() == "cpu" ? 1024 : 8192;
    const Tensor x = Tensor::Full(device, {side, side}, dtype, 0.01);
    flops_per_second_ = 2.0 * side * side * side / Seconds(device, [&] { MatMul(x, x); });
    std::printf(
        "{\"bench\":\"device\",\"device\":\"%s\",\"dtype\":\"%s\",\"copy_gb_s\":%.1f,\"gemm_tflop_"
        "s\":%.2f}\n",
        std::string(device.name()).c_str(), DTypeName(dtype), bytes_per_second_ / 1e9,
        flops_per_second_ / 1e12);
  }

  // What a kernel has to move at least, once each.
  void Bytes(const char* name, double bytes, const std::function<void()>& call) const {
    const double seconds = Seconds(device_, call);
    std::printf(
        "{\"bench\":\"kernel\",\"class\":\"%s\",\"us\":%.1f,\"gb_s\":%.1f,\"share_of_copy\":%.3f}"
        "\n",
        name, seconds * 1e6, bytes / seconds / 1e9, bytes / seconds / bytes_per_second_);
  }
  void Flops(const char* name, double flops, const std::function<void()>& call) const {
    const double seconds = Seconds(device_, call);
    std::printf(
        "{\"bench\":\"kernel\",\"class\":\"%s\",\"us\":%.1f,\"tflop_s\":%.2f,\"share_of_gemm\":%."
        "3f}\n",
        name, seconds * 1e6, flops / seconds / 1e12, flops / seconds / flops_per_second_);
  }
  double flops_per_second() const { return flops_per_second_; }
  Tensor Values(const Shape& shape) const { return Tensor::Full(device_, shape, dtype_, 0.01); }

 private:
  Device& device_;
  const DType dtype_;
  double bytes_per_second_ = 0, flops_per_second_ = 0;
};

TokenLayout LayoutOf(Device& device, int64_t n) {
  TokenLayout layout;
  std::vector<int64_t> samples(n);
  std::vector<int32_t> positions(n);
  for (int64_t i = 0; i < n; ++i) {
    samples[i] = i / kSequence;
    positions[i] = static_cast<int32_t>(i % kSequence);
  }
  for (int64_t s = 0; s < n / kSequence; ++s) layout.segments.push_back({s, 0, kSequence});
  layout.documents = layout.segments;
  layout.sample = Tensor::FromHost<int64_t>(device, {n}, samples);
  layout.position = Tensor::FromHost<int32_t>(device, {n}, positions);
  return layout;
}

void RunClasses(Device& device, DType dtype, int64_t n, const Classes& on) {
  const NoGrad no_grad;
  const double size = DTypeSize(dtype);
  const Tensor x = on.Values({n, kWidth}), gate = on.Values({n, kMlp}), up = on.Values({n, kMlp});
  const Tensor gain = on.Values({kWidth}), positions = LayoutOf(device, n).position;
  on.Bytes("add", 3 * size * n * kWidth, [&] { Add(x, x); });
  on.Bytes("swiglu", 3 * size * n * kMlp, [&] { SwiGlu(gate, up); });
  on.Bytes("rms_norm", 2 * size * n * kWidth, [&] { RmsNorm(x, gain, 1e-5); });
  on.Bytes("softmax", 2 * size * n * kMlp, [&] { Softmax(gate); });
  const Tensor heads = x.WithShape({n, kHeads, kWidth / kHeads});
  on.Bytes("rotary", 2 * size * n * kWidth, [&] { Rotary(heads, positions, 1e4); });
  on.Bytes("sum over rows", size * n * kMlp, [&] { Sum(gate, 0); });
  const Tensor weight = on.Values({kMlp, kWidth});
  on.Flops("linear", 2.0 * n * kWidth * kMlp, [&] { Linear(x, weight); });
  const KeyRanges ranges = CausalKeyRanges(device, LayoutOf(device, n));
  on.Flops("attention", 2.0 * n * kSequence * kWidth,
           [&] { Attention(heads, heads, heads, ranges, 0.125); });
}

Status RunStep(Device& device, const Flags& flags, const Classes& on) {
  const std::string text = absl::StrCat(
      "run_dir: 'unused' dtype: '", flags.dtype, "' model { name: 'transformer' width: ", kWidth,
      " num_layers: 12 mlp_width: ", kMlp, " layers: 'S' S { name: 'softmax' heads: ", kHeads,
      " } } data { dataset { name: 'synthetic' vocabulary_size: ", kVocabulary,
      " num_tokens: 2000000 max_document_tokens: 2000000000 validation_fraction: 0 } "
      "sequence_length: ",
      kSequence, " } batch { global_batch_size: ", flags.tokens / kSequence,
      " } num_steps: 1000 optimizer { name: 'adamw' } learning_rate: 0.0003");
  ASSIGN_OR_RETURN(LoadedConfig loaded, ParseConfig("device_bench", text, {}));
  RETURN_IF_ERROR(ResolveConfig(1, Catalogue(), &loaded));
  const ComponentConfig data = ToComponentConfig(loaded.config.data().dataset());
  ASSIGN_OR_RETURN(const auto dataset, MakeDataset(data.name, data.params, {kSequence}));
  const auto world = MakeSelfCommunicator();
  PhaseTimer phases;
  ASSIGN_OR_RETURN(const auto trainer,
                   Trainer::Create(loaded.config, *dataset, *world, device, phases));
  double best = 1e30, flops = 0;
  for (int step = 0; step < 6; ++step) {
    const absl::Time start = absl::Now();
    ASSIGN_OR_RETURN(const StepReport report, trainer->Step());
    RETURN_IF_ERROR(device.Synchronize());
    if (step > 0) best = std::min(best, absl::ToDoubleSeconds(absl::Now() - start));
    flops = report.flops;
  }
  std::printf(
      "{\"bench\":\"step\",\"model\":\"gpt2-small-like\",\"tokens_s\":%.0f,\"model_flop_"
      "utilization\":%.3f}\n",
      flags.tokens / best, flops / best / on.flops_per_second());
  return absl::OkStatus();
}

Status Run(const Flags& flags) {
  const auto world = MakeSelfCommunicator();
  ASSIGN_OR_RETURN(const RankDevice made, MakeRankDevice(*world, {flags.device}, 0, 1, {}));
  ASSIGN_OR_RETURN(const DType dtype, ComputeDType(flags.dtype));
  return CatchFailure([&] {
    const Classes on(*made.device, dtype);
    RunClasses(*made.device, dtype, flags.tokens, on);
    ThrowIfError(RunStep(*made.device, flags, on));
  });
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  trireme::bench::Flags flags;
  for (int i = 1; i + 1 < argc; i += 2) {
    const absl::string_view flag = argv[i];
    if (flag == "--device") flags.device = argv[i + 1];
    if (flag == "--dtype") flags.dtype = argv[i + 1];
    if (flag == "--tokens")
      flags.tokens = std::max<int64_t>(1, std::atoll(argv[i + 1]) / 1024) * 1024;
  }
  const trireme::Status status = trireme::bench::Run(flags);
  if (!status.ok()) std::fprintf(stderr, "device_bench: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
