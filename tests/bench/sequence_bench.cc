// One attention over a sequence that is cut over ranks, every way there is: bytes that the busiest
// rank sends, and the time of a forward and a backward pass. Ranks are threads of one core each, so
// with more ranks than cores times compare work, not links. Then, for linear attention with kernels
// that take a set time, as on cores of their own, what a pass takes beyond them, and what the scan
// takes alone. Markdown tables.
//   build-release/tests/bench/sequence_bench [RANKS [TOKENS_PER_RANK [REPEATS]]]
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/base/params.h"
#include "core/device/kernel.h"
#include "core/ops/devices.h"
#include "core/ops/recurrence.h"
#include "parallel/comm/local.h"
#include "parallel/sequence/kv_exchange.h"
#include "parallel/sequence/sequence_recurrence.h"

namespace trireme::bench {
namespace {

constexpr int64_t kHeads = 8, kWidth = 64;

// What a rank runs, and what came of it: the slowest rank's best time, the busiest rank's bytes.
struct Contender {
  std::string name;
  SequenceCut cut;
  // Makes the op of a rank, from q, k, v to the output; called once on every rank.
  std::function<std::function<Tensor(const std::vector<Tensor>&)>(Communicator& world, Device&,
                                                                  const TokenLayout&)>
      make;
  double forward = HUGE_VAL, backward = HUGE_VAL;
  int64_t forward_bytes = 0, backward_bytes = 0;
};

TokenLayout LayoutOf(int64_t tokens, SequenceCut cut, int size, int rank) {
  TokenLayout layout;
  layout.documents = {{0, 0, tokens}};
  layout.axis_segments = CutSegments(layout.documents, cut, size);
  layout.segments = layout.axis_segments[rank];
  return layout;
}

Contender Softmax(const std::string& method, int size) {
  const KvExchangePlan plan = ValueOrThrow(PlanKvExchange(method, {}, size));
  return {"softmax, " + method, plan.cut,
          [plan](Communicator& world, Device&, const TokenLayout& layout) {
            const Mesh mesh = ValueOrThrow(Mesh::Create({1, 1, 1, world.size(), 1}, world.size()));
            const std::shared_ptr<MeshGroups> groups = ValueOrThrow(
                MeshGroups::Create(world, mesh, {AxisSet(Axis::kSequence)}, FactorsOf(plan)));
            const std::shared_ptr<KvExchange> exchange = MakeKvExchange(plan, *groups);
            return [=](const std::vector<Tensor>& x) {
              (void)groups;
              return (*exchange)(x[0], x[1], x[2], layout, 0, 1 / std::sqrt(double{kWidth}));
            };
          }};
}

Contender Linear(const std::string& scan, SequenceCut cut, StateRule rule) {
  const ScanPlan plan = ValueOrThrow(PlanScan(scan, {}));
  const bool delta = rule == StateRule::kDelta;
  return {
      absl::StrCat(delta ? "gated delta, " : "scalar decay, ", scan, ", ", SequenceCutName(cut)),
      cut, [=](Communicator& world, Device& device, const TokenLayout& layout) {
        const auto scan = std::make_shared<AffineScan>(plan, world);
        const RecurrencePlan runs = PlanRecurrence(layout, cut, world.rank(), false);
        const int64_t n = NumTokens(layout.segments);
        RecurrenceInputs in;
        in.rule = rule;
        in.log_decay = Tensor::Full(device, {n, kHeads}, DType::kF32, -0.02);
        if (delta) in.beta = Tensor::Full(device, {n, kHeads}, DType::kF32, 0.5);
        return [=](const std::vector<Tensor>& x) {
          RecurrenceInputs inputs = in;
          inputs.q = x[0];
          inputs.k = x[1];
          inputs.v = x[2];
          return SequenceRecurrence(inputs, runs, *scan, Tensor()).out;
        };
      }};
}

// Uniform in a small box: keys of length about one.
Tensor Noise(Device& device, const Shape& shape, uint64_t seed) {
  std::vector<float> values(shape.numel());
  for (float& value : values) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    value = (static_cast<float>(seed >> 40) / (1 << 24) - 0.5f) * 0.4f;
  }
  return Tensor::FromHost<float>(device, shape, values);
}

template <typename T>
void RaiseTo(std::atomic<T>* most, T value) {
  T seen = most->load();
  while (seen < value && !most->compare_exchange_weak(seen, value)) {
  }
}

Status RunOnce(int size, int64_t tokens_per_rank, Contender* contender) {
  std::atomic<double> forward = 0, backward = 0;
  std::atomic<int64_t> forward_bytes = 0, backward_bytes = 0;
  const Status status = RunOnRanks(size, {}, [&](Communicator& world) {
    return CatchFailure([&] {
      const auto device = MakeCpuDevice();
      const TokenLayout layout =
          LayoutOf(size * tokens_per_rank, contender->cut, size, world.rank());
      const auto op = contender->make(world, *device, layout);
      std::vector<Tensor> x;
      for (uint64_t i = 0; i < 3; ++i) {
        x.push_back(Noise(*device, {NumTokens(layout.segments), kHeads, kWidth}, i + 1));
        x.back().set_requires_grad();
      }
      const auto sent = [&] {
        int64_t bytes = 0;
        for (const auto& [key, of_purpose] : world.journal().SentBytes()) {
          if (key.second != "start") bytes += of_purpose;
        }
        return bytes;
      };
      const auto timed = [&](std::atomic<double>* most, std::atomic<int64_t>* most_bytes,
                             const std::function<void()>& fn) {
        ThrowIfError(world.Barrier({.purpose = "start"})->Wait());
        const int64_t before = sent();
        const absl::Time start = absl::Now();
        fn();
        RaiseTo(most, absl::ToDoubleSeconds(absl::Now() - start));
        RaiseTo(most_bytes, sent() - before);
      };
      Tensor loss;
      timed(&forward, &forward_bytes, [&] { loss = Sum(op(x)); });
      timed(&backward, &backward_bytes, [&] { loss.Backward(); });
    });
  });
  contender->forward = std::min(contender->forward, forward.load());
  contender->backward = std::min(contender->backward, backward.load());
  contender->forward_bytes = forward_bytes;
  contender->backward_bytes = backward_bytes;
  return status;
}

// Kernels that take so long each, whatever else the cores do.
constexpr absl::Duration kKernelTime = absl::Milliseconds(40);

const KernelTable& Plain() {
  static const KernelTable table = MakeCpuDevice()->kernels();
  return table;
}

// The two that run while a scan is under way: outputs forward, states backward. Functions have no
// captures, so a thread says whether its kernels are slow.
thread_local bool slow = false;
template <typename Args>
void RunSlowly(void (*kernel)(Device&, const Args&), Device& device, const Args& args) {
  const absl::Time start = absl::Now();
  kernel(device, args);
  if (slow) absl::SleepFor(kKernelTime - (absl::Now() - start));
}

const KernelTable& Slow() {
  static const KernelTable table = [] {
    KernelTable slowed = Plain();
    slowed.RecurrenceStates = [](Device& device, const RecurrenceStatesArgs& args) {
      RunSlowly(Plain().RecurrenceStates, device, args);
    };
    slowed.RecurrenceOutput = [](Device& device, const RecurrenceOutputArgs& args) {
      RunSlowly(Plain().RecurrenceOutput, device, args);
    };
    return slowed;
  }();
  return table;
}

// The slowest rank's time, the best of several.
struct Exposed {
  double alone = HUGE_VAL, forward = HUGE_VAL, backward = HUGE_VAL;
};

// States of all heads with matrices between them, and a few tokens.
Status MeasureExposed(const ScanPlan& plan, SequenceCut cut, int size, Exposed* best) {
  std::atomic<double> alone = 0, forward = 0, backward = 0;
  const Status status = RunOnRanks(size, {}, [&](Communicator& world) {
    return CatchFailure([&] {
      CpuDevice device({}, Slow());
      const TokenLayout layout = LayoutOf(16 * size, cut, size, world.rank());
      const RecurrencePlan runs = PlanRecurrence(layout, cut, world.rank(), false);
      const AffineScan scan(plan, world);
      const int64_t n = NumTokens(layout.segments);
      RecurrenceInputs in;
      in.rule = StateRule::kDelta;
      in.q = Noise(device, {n, kHeads, kWidth}, 1).set_requires_grad();
      in.k = Noise(device, {n, kHeads, kWidth}, 2);
      in.v = Noise(device, {n, kHeads, kWidth}, 3);
      in.beta = Tensor::Full(device, {n, kHeads}, DType::kF32, 0.5);
      const auto timed = [&](std::atomic<double>* most, const std::function<void()>& fn) {
        ThrowIfError(world.Barrier({.purpose = "start"})->Wait());
        const absl::Time start = absl::Now();
        fn();
        RaiseTo(most, absl::ToDoubleSeconds(absl::Now() - start));
      };
      std::vector<AffineMap> maps;
      for (int slot = 0; slot < runs.num_slots(); ++slot) {
        if (runs.owners[slot] != world.rank()) continue;
        maps.push_back({TransitionKind::kMatrix,
                        Tensor::Zeros(device, {1, kHeads, kWidth, kWidth}, DType::kF32),
                        Tensor::Zeros(device, {1, kHeads, kWidth, kWidth}, DType::kF32),
                        runs.resets[slot]});
      }
      timed(&alone, [&] {
        scan.Start({runs.owners, runs.resets, {}}, maps, Tensor(), ScanDirection::kForward)->Join();
      });
      Tensor out;
      slow = true;
      timed(&forward, [&] { out = SequenceRecurrence(in, runs, scan, Tensor()).out; });
      slow = false;
      const Tensor loss = Sum(out);
      slow = true;
      timed(&backward, [&] { loss.Backward(); });
      slow = false;
    });
  });
  const double kernel = absl::ToDoubleSeconds(kKernelTime);
  best->alone = std::min(best->alone, alone.load());
  best->forward = std::min(best->forward, forward.load() - 2 * kernel);  // States, outputs.
  best->backward = std::min(best->backward, backward.load() - kernel);   // States again.
  return status;
}

Status PrintExposed(int size, int64_t repeats) {
  std::printf("\n| scan over %d ranks | ms alone | beyond kernels, forward | backward |\n", size);
  std::printf("|---|---|---|---|\n");
  for (const auto& entry : Scans()) {
    if (std::string(entry.name) == "auto") continue;
    const ScanPlan plan = ValueOrThrow(PlanScan(entry.name, {}));
    for (const SequenceCut cut : {SequenceCut::kContiguous, SequenceCut::kZigzag}) {
      Exposed best;
      for (int64_t i = 0; i < repeats; ++i) {
        RETURN_IF_ERROR(MeasureExposed(plan, cut, size, &best));
      }
      std::printf("| %s, %s | %.1f | %.1f | %.1f |\n", entry.name, SequenceCutName(cut),
                  1e3 * best.alone, 1e3 * best.forward, 1e3 * best.backward);
    }
  }
  return absl::OkStatus();
}

int Main(const std::vector<std::string>& args) {
  int64_t size = 4, tokens = 1024, repeats = 3;
  int64_t* const numbers[] = {&size, &tokens, &repeats};
  for (size_t i = 0; i < args.size(); ++i) {
    if (i >= 3 || !ParseInt(args[i], numbers[i]) || *numbers[i] < 1) {
      std::fprintf(stderr, "sequence_bench [RANKS [TOKENS_PER_RANK [REPEATS]]]\n");
      return 2;
    }
  }
  std::vector<Contender> contenders;
  for (const char* method : {"ring", "ulysses", "all_gather"}) {
    contenders.push_back(Softmax(method, static_cast<int>(size)));
  }
  for (const StateRule rule : {StateRule::kDiagonal, StateRule::kDelta}) {
    for (const auto& entry : Scans()) {
      if (std::string(entry.name) == "auto") continue;
      for (const SequenceCut cut : {SequenceCut::kContiguous, SequenceCut::kZigzag}) {
        contenders.push_back(Linear(entry.name, cut, rule));
      }
    }
  }
  for (int64_t i = 0; i < repeats; ++i) {
    for (Contender& contender : contenders) {
      const Status status = RunOnce(static_cast<int>(size), tokens, &contender);
      if (!status.ok()) {
        std::fprintf(stderr, "%s\n", status.ToString().c_str());
        return 1;
      }
    }
  }
  std::printf("%lld ranks, %lld tokens each, %lld heads of %lld, f32; best of %lld\n\n",
              static_cast<long long>(size), static_cast<long long>(tokens),
              static_cast<long long>(kHeads), static_cast<long long>(kWidth),
              static_cast<long long>(repeats));
  std::printf("| method | KiB sent forward | backward | ms forward | backward |\n");
  std::printf("|---|---|---|---|---|\n");
  for (const Contender& contender : contenders) {
    std::printf("| %s | %.1f | %.1f | %.1f | %.1f |\n", contender.name.c_str(),
                static_cast<double>(contender.forward_bytes) / 1024,
                static_cast<double>(contender.backward_bytes) / 1024, 1e3 * contender.forward,
                1e3 * contender.backward);
  }
  const Status status = PrintExposed(static_cast<int>(size), repeats);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  return trireme::bench::Main(std::vector<std::string>(argv + 1, argv + argc));
}
