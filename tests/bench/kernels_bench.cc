// The products and the attention of the training step (width 512, MLP 1408, vocabulary 8192, 8
// sequences of 512 tokens), on one thread: ours beside OpenBLAS and oneDNN called directly on the
// whole product.
//
// All candidates of a line run in turn in every iteration, each timed by the CPU time of its
// thread, and the best times are compared: other load on the machine then touches all alike.
// `ratio` is our rate over the best library's.
#include <benchmark/benchmark.h>
#include <cblas.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/base/rng.h"
#include "core/device/kernel.h"
#include "core/ops/attention.h"
#include "core/ops/cpu/gemm_library.h"
#include "core/ops/devices.h"
#include "core/ops/matmul.h"
#include "core/ops/ops.h"
#include "oneapi/dnnl/dnnl.hpp"

extern "C" void omp_set_num_threads(int) __attribute__((weak));

namespace trireme {
namespace {

constexpr int64_t kTokens = 4096;

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

Tensor Values(Device& device, const Shape& shape, DType dtype, uint64_t seed) {
  const RngKey key = MakeRngKey(seed, "bench");
  std::vector<float> values(shape.numel());
  for (size_t i = 0; i < values.size(); i += 4) {
    const RngBlock block = Philox(key, i);
    for (size_t j = 0; j < 4 && i + j < values.size(); ++j) {
      values[i + j] = static_cast<float>(UniformFromBits(block[j]) - 0.5);
    }
  }
  return Tensor::FromHost<float>(device, shape, values).CopyTo(dtype);
}

// c[m, n] = a b, or += a b; a and b may be transposed views, as backward passes have them.
struct Shapes {
  const char* name;
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  DType in, out;
  bool accumulate;
};

// A way to compute the product, and its best time.
struct Candidate {
  const char* name;
  std::function<void()> run;
  double seconds = std::numeric_limits<double>::infinity();
};

std::function<void()> OneDnnMatmul(const Shapes& s, const Tensor& a, const Tensor& b,
                                   const Tensor& c) {
  using dnnl::memory;
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const auto type = [](DType dtype) {
    return dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
  };
  const auto desc = [&](int64_t rows, int64_t columns, DType dtype, bool transposed) {
    return memory::desc({rows, columns}, type(dtype),
                        transposed ? memory::dims{1, rows} : memory::dims{columns, 1});
  };
  dnnl::primitive_attr attributes;
  if (s.accumulate) {
    dnnl::post_ops add;
    add.append_sum(1);
    attributes.set_post_ops(add);
  }
  const dnnl::matmul::primitive_desc description(
      dnnl::matmul::desc(desc(s.m, s.k, s.in, s.transpose_a), desc(s.k, s.n, s.in, s.transpose_b),
                         desc(s.m, s.n, s.out, false)),
      attributes, engine);
  const std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, memory(description.src_desc(), engine, a.raw())},
      {DNNL_ARG_WEIGHTS, memory(description.weights_desc(), engine, b.raw())},
      {DNNL_ARG_DST, memory(description.dst_desc(), engine, c.raw())}};
  return [primitive = dnnl::matmul(description), arguments,
          stream = dnnl::stream(engine)]() mutable { primitive.execute(stream, arguments); };
}

void RunGemm(benchmark::State& state, const Shapes& s) {
  const auto device = MakeCpuDevice();
  const Tensor a = Values(*device, s.transpose_a ? Shape{s.k, s.m} : Shape{s.m, s.k}, s.in, 1);
  const Tensor b = Values(*device, s.transpose_b ? Shape{s.n, s.k} : Shape{s.k, s.n}, s.in, 2);
  const Tensor c = Tensor::Zeros(*device, {s.m, s.n}, s.out);
  const auto view = [](const Tensor& x, bool transposed) {
    View v = x.view();
    if (transposed) {
      std::swap(v.sizes[0], v.sizes[1]);
      std::swap(v.strides[0], v.strides[1]);
    }
    return v;
  };
  const float beta = s.accumulate ? 1 : 0;
  GemmArgs args{view(a, s.transpose_a), view(b, s.transpose_b), c.view()};
  args.beta = beta;

  std::vector<Candidate> candidates;
  candidates.push_back({"ours", [&] { Launch(*device, &KernelTable::Gemm, args); }});
  if (s.in == DType::kF32) {
    const auto blas = [](bool transposed) { return transposed ? CblasTrans : CblasNoTrans; };
    candidates.push_back({"openblas", [&, blas] {
                            cblas_sgemm(CblasRowMajor, blas(s.transpose_a), blas(s.transpose_b),
                                        s.m, s.n, s.k, 1, a.data<float>(), a.dim(1),
                                        b.data<float>(), b.dim(1), beta, c.data<float>(), s.n);
                          }});
    candidates.push_back({"dnnl_sgemm", [&] {
                            dnnl_sgemm(s.transpose_a ? 'T' : 'N', s.transpose_b ? 'T' : 'N', s.m,
                                       s.n, s.k, 1, a.data<float>(), a.dim(1), b.data<float>(),
                                       b.dim(1), beta, c.data<float>(), s.n);
                          }});
  }
  if (s.in == DType::kF32 || GemmLibrary::HasBf16Primitives()) {
    candidates.push_back({"dnnl_matmul", OneDnnMatmul(s, a, b, c)});
  }
  for (Candidate& candidate : candidates) candidate.run();
  for (auto _ : state) {
    for (Candidate& candidate : candidates) {
      const double start = ThreadSeconds();
      candidate.run();
      candidate.seconds = std::min(candidate.seconds, ThreadSeconds() - start);
    }
    state.SetIterationTime(candidates[0].seconds);
  }
  const double gflop = 2e-9 * s.m * s.n * s.k;
  double best_library = 0;
  for (const Candidate& candidate : candidates) {
    state.counters[candidate.name] = gflop / candidate.seconds;
    if (&candidate != &candidates[0]) {
      best_library = std::max(best_library, gflop / candidate.seconds);
    }
  }
  if (best_library > 0) {
    state.counters["ratio"] = gflop / candidates[0].seconds / best_library;
  }
}

// Packed causal documents of `length` tokens; heads of 64.
void RunAttention(benchmark::State& state, DType dtype, bool backward, int64_t length,
                  int64_t kv_heads) {
  constexpr int64_t kHeads = 8, kWidth = 64;
  const auto device = MakeCpuDevice();
  const Tensor q = Values(*device, {kTokens, kHeads, kWidth}, dtype, 1);
  const Tensor k = Values(*device, {kTokens, kv_heads, kWidth}, dtype, 2);
  const Tensor v = Values(*device, {kTokens, kv_heads, kWidth}, dtype, 3);
  const Tensor dout = Values(*device, {kTokens, kHeads, kWidth}, dtype, 4);
  TokenLayout layout;
  layout.segments = {{0, 0, kTokens}};
  for (int64_t i = 0; i < kTokens; i += length) layout.documents.push_back({0, i, length});
  const KeyRanges ranges = CausalKeyRanges(*device, layout);
  const Tensor out = Tensor::Empty(*device, q.shape(), dtype);
  const Tensor lse = Tensor::Empty(*device, {kTokens, kHeads}, AccumulationType(dtype));
  const Tensor dq = Tensor::Empty(*device, q.shape(), dtype);
  const Tensor dk = Tensor::Empty(*device, k.shape(), dtype);
  const Tensor dv = Tensor::Empty(*device, v.shape(), dtype);
  const double scale = 0.125;
  const AttentionArgs args{q.view(),          k.view(),   v.view(),   ranges.begin.view(),
                           ranges.end.view(), out.view(), lse.view(), scale};
  const Tensor delta = Tensor::Empty(*device, lse.shape(), lse.dtype());
  const AttentionDeltaArgs delta_args{out.view(), dout.view(), delta.view(), scale};
  const AttentionBackwardArgs backward_args{
      q.view(),     k.view(),    v.view(),  ranges.begin.view(), ranges.end.view(), lse.view(),
      delta.view(), dout.view(), dq.view(), dk.view(),           dv.view(),         scale};
  double best = std::numeric_limits<double>::infinity();
  Launch(*device, &KernelTable::Attention, args);
  for (auto _ : state) {
    const double start = ThreadSeconds();
    if (backward) {
      Launch(*device, &KernelTable::AttentionDelta, delta_args);
      Launch(*device, &KernelTable::AttentionBackward, backward_args);
    } else {
      Launch(*device, &KernelTable::Attention, args);
    }
    best = std::min(best, ThreadSeconds() - start);
    state.SetIterationTime(best);
  }
  // Half the square: two products forward, five backward.
  const double pairs = static_cast<double>(kTokens) * (length + 1) / 2 * kHeads;
  state.counters["ours"] = 1e-9 * (backward ? 5 : 2) * 2 * kWidth * pairs / best;
}

std::string CpuModel() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

void RegisterAll() {
  struct Layer {
    const char* name;
    int64_t in, out;
  };
  static std::vector<Shapes> shapes;
  static std::vector<std::string> names;
  const DType f32 = DType::kF32, bf16 = DType::kBF16;
  for (const DType dtype : {f32, bf16}) {
    for (const Layer& layer : {Layer{"qkvo", 512, 512}, Layer{"gate_up", 512, 1408},
                               Layer{"down", 1408, 512}, Layer{"head", 512, 8192}}) {
      shapes.push_back({"forward", kTokens, layer.out, layer.in, false, true, dtype, dtype, false});
      shapes.push_back({"dgrad", kTokens, layer.in, layer.out, false, false, dtype, dtype, false});
      shapes.push_back({"wgrad", layer.out, layer.in, kTokens, true, false, dtype, f32, true});
      for (int i = 3; i > 0; --i) {
        names.push_back(std::string("gemm/") + DTypeName(dtype) + "/" + layer.name + "/" +
                        shapes[shapes.size() - i].name);
      }
    }
    shapes.push_back({"cube", 2048, 2048, 2048, false, false, dtype, dtype, false});
    names.push_back(std::string("gemm/") + DTypeName(dtype) + "/cube2048");
  }
  for (size_t i = 0; i < shapes.size(); ++i) {
    benchmark::RegisterBenchmark(names[i].c_str(), RunGemm, shapes[i])
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
  for (const DType dtype : {f32, bf16}) {
    for (const bool backward : {false, true}) {
      for (const auto& [length, kv_heads] :
           {std::pair<int64_t, int64_t>{512, 8}, {4096, 8}, {512, 2}}) {
        const std::string name = std::string("attention/") + DTypeName(dtype) + "/" +
                                 (backward ? "backward" : "forward") +
                                 "/length:" + std::to_string(length) +
                                 "/kv_heads:" + std::to_string(kv_heads);
        benchmark::RegisterBenchmark(
            name.c_str(),
            [=, length = length, kv_heads = kv_heads](benchmark::State& state) {
              RunAttention(state, dtype, backward, length, kv_heads);
            })
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  openblas_set_num_threads(1);
  if (omp_set_num_threads != nullptr) omp_set_num_threads(1);
  benchmark::AddCustomContext("processor", trireme::CpuModel());
  benchmark::AddCustomContext("libraries", trireme::GemmLibrary::Describe());
  benchmark::AddCustomContext("rates", "GFLOP/s of thread CPU time, one thread");
  trireme::RegisterAll();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
