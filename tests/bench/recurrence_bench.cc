// Linear attention on one thread, heads of 64 by 64: our kernels beside their own small products
// called directly, from us and from the libraries, and beside a recurrence token by token
// (token_recurrence.h).
//
// All contenders of a line run in turn in every iteration, each timed by the CPU time of its
// thread, and the best times are compared. Counters:
//   us_token  ours, microseconds a token of one head
//   gflops    of the products in it
//   products  the time of the same products alone, on operands in the nearest cache, over ours: by
//             our own Multiply
//   library   the same by the better of OpenBLAS and oneDNN
//   speedup   the time of the token recurrence over ours; by_token_us is its own (f32, with a
//   scalar
//             decay)
//   flat      the slowest over the fastest rate of 1K, 4K, 16K and 64K tokens
#include <benchmark/benchmark.h>
#include <cblas.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/device/kernel.h"
#include "core/ops/chunked_runs.h"
#include "core/ops/cpu/block_products.h"
#include "core/ops/devices.h"
#include "core/ops/init.h"
#include "core/ops/ops.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "tests/bench/token_recurrence.h"

extern "C" void omp_set_num_threads(int) __attribute__((weak));

namespace trireme::bench {
namespace {

constexpr int64_t kWidth = 64, kBlocks = kChunkTokens / 16;

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

struct Candidate {
  std::string name;
  std::function<void()> run;
  double seconds = std::numeric_limits<double>::infinity();

  void Time() {
    const double start = ThreadSeconds();
    run();
    seconds = std::min(seconds, ThreadSeconds() - start);
  }
};

enum class Decay { kNone, kScalar, kChannel };

// One head of n tokens, and everything that the kernels read and write.
struct Problem {
  Problem(StateRule rule, Decay decay, DType dtype, int64_t n)
      : device(MakeCpuDevice()), runs(ChunkRuns({{0, n}})) {
    const DType acc = AccumulationType(dtype);
    const auto normal = [&](int64_t width, uint64_t seed, double scale) {
      const Tensor x = Tensor::Empty(*device, {n, 1, width}, DType::kF32);
      std::vector<float> values(x.numel());
      const RngKey key = MakeRngKey(seed, "bench");
      for (size_t i = 0; i < values.size(); ++i) values[i] = scale * (2 * UniformAt(key, i) - 1);
      return Tensor::FromHost<float>(*device, x.shape(), values).CopyTo(dtype);
    };
    q = normal(kWidth, 1, 1);
    k = normal(kWidth, 2, 0.2);
    v = normal(kWidth, 3, 1);
    dout = normal(kWidth, 4, 1);
    if (decay == Decay::kScalar) {
      log_decay = Neg(Abs(normal(1, 5, 0.1).CopyTo(acc))).WithShape({n, 1});
    } else if (decay == Decay::kChannel) {
      log_decay = Neg(Abs(normal(kWidth, 5, 0.1).CopyTo(acc)));
    }
    if (rule == StateRule::kDelta) beta = Sigmoid(normal(1, 6, 1)).WithShape({n, 1});
    if (rule == StateRule::kLowRank) {
      a = normal(kWidth, 7, 0.15);
      b = normal(kWidth, 8, 0.15);
    }
    const auto empty = [&](const Shape& shape, DType type) {
      return Tensor::Zeros(*device, shape, type);
    };
    out = empty(v.shape(), dtype);
    for (Tensor* x : {&dq, &dk, &dv, &da, &db}) *x = empty(v.shape(), dtype);
    if (log_decay.defined()) dlog_decay = empty(log_decay.shape(), acc);
    dbeta = empty({n, 1}, dtype);
    states = empty({NumChunks(runs), 1, kWidth, kWidth}, acc);
    pseudo_values = empty(v.shape(), acc);
    tokens = {
        rule,      q.view(), k.view(),    v.view(), ViewOf(log_decay), ViewOf(beta), ViewOf(a),
        ViewOf(b), 1,        runs.data(), 1};
  }

  static View ViewOf(const Tensor& x) { return x.defined() ? x.view() : View(); }

  void Forward() {
    Launch(*device, &KernelTable::RecurrenceStates,
           RecurrenceStatesArgs{tokens, {}, {}, {}, {}, out.view()});
  }
  // As LinearRecurrence on one rank: the walk forward keeps what backward wants.
  void ForwardAndBackward() {
    const View kept = tokens.rule == StateRule::kDiagonal ? View() : pseudo_values.view();
    Launch(*device, &KernelTable::RecurrenceStates,
           RecurrenceStatesArgs{tokens, {}, {}, states.view(), kept, out.view()});
    Launch(*device, &KernelTable::RecurrenceBackward,
           RecurrenceBackwardArgs{tokens,
                                  states.view(),
                                  pseudo_values.view(),
                                  dout.view(),
                                  {},
                                  dq.view(),
                                  dk.view(),
                                  dv.view(),
                                  ViewOf(dlog_decay),
                                  dbeta.view(),
                                  da.view(),
                                  db.view(),
                                  {}});
  }

  std::unique_ptr<CpuDevice> device;
  std::vector<ChunkedRun> runs;
  Tensor q, k, v, dout, log_decay, beta, a, b;
  Tensor out, dq, dk, dv, da, db, dlog_decay, dbeta, states, pseudo_values;
  RecurrenceTokens tokens;
};

// The products of a chunk: how often each of the four shapes.
struct Products {
  int64_t scores;   // [16, 64] [64, 16]
  int64_t mixes;    // [16, 16] [16, 64]
  int64_t reads;    // [16, 64] [64, 64]
  int64_t updates;  // [64, 16] [16, 64]

  double flops() const { return 2.0 * 16 * 64 * (16 * (scores + mixes) + 64 * (reads + updates)); }
};

// As recurrence_block.cc and recurrence_backward.cc have them. By channel the scores, and what
// their gradients give, are computed in another way; they count as the products that they are
// otherwise. Triangular factors count whole, as libraries multiply with them.
Products ProductsOf(StateRule rule, bool backward) {
  const int64_t writers = rule == StateRule::kLowRank ? 2 : 1;
  const int64_t readers = rule == StateRule::kDiagonal ? 1 : 2;
  const int64_t extra = rule == StateRule::kLowRank ? 1 : 0;  // r of (k, v).
  Products p = {kBlocks * readers * writers, kBlocks * (writers + extra), kBlocks * readers,
                kBlocks * writers};
  if (backward) {
    p.scores += kBlocks * 2 * readers * writers;
    p.mixes += kBlocks * (writers + extra + 2 * readers * writers);
    p.reads += kBlocks * (writers + readers + writers);
    p.updates += (kBlocks - 1) * writers + kBlocks * readers;
  }
  return p;
}

// fn(m, n, k, a, a transposed, b, c) for all products of a chunk.
template <typename Fn>
void ForProducts(const Products& p, Fn fn) {
  alignas(64) static float memory[3][kWidth * kWidth];
  const auto repeat = [&](int64_t count, int64_t m, int64_t n, int64_t k, bool transposed) {
    for (int64_t i = 0; i < count; ++i) fn(m, n, k, memory[0], transposed, memory[1], memory[2]);
  };
  repeat(p.reads, 16, 64, 64, false);
  repeat(p.scores, 16, 16, 64, false);
  repeat(p.mixes, 16, 64, 16, false);
  repeat(p.updates, 64, 64, 16, true);
}

void RunKernel(benchmark::State& state, StateRule rule, Decay decay, DType dtype, bool backward) {
  constexpr int64_t kTokens = 1024;
  Problem problem(rule, decay, dtype, kTokens);
  std::vector<Candidate> candidates;
  candidates.push_back(
      {"ours", [&] { backward ? problem.ForwardAndBackward() : problem.Forward(); }});
  const Products products = ProductsOf(rule, backward);
  const auto for_all = [&](auto product) {
    for (int64_t i = 0; i < kTokens / kChunkTokens; ++i) ForProducts(products, product);
  };
  candidates.push_back(
      {"products", [&] {
         for_all([](int64_t m, int64_t n, int64_t k, const float* a, bool transposed,
                    const float* b, float* c) {
           Multiply<float>(m, n, k, {a, transposed ? m : k, transposed}, b, n, c, n, {true});
         });
       }});
  candidates.push_back({"openblas", [&] {
                          for_all([](int64_t m, int64_t n, int64_t k, const float* a,
                                     bool transposed, const float* b, float* c) {
                            cblas_sgemm(CblasRowMajor, transposed ? CblasTrans : CblasNoTrans,
                                        CblasNoTrans, m, n, k, 1, a, transposed ? m : k, b, n, 1, c,
                                        n);
                          });
                        }});
  candidates.push_back({"dnnl", [&] {
                          for_all([](int64_t m, int64_t n, int64_t k, const float* a,
                                     bool transposed, const float* b, float* c) {
                            dnnl_sgemm(transposed ? 'T' : 'N', 'N', m, n, k, 1, a,
                                       transposed ? m : k, b, n, 1, c, n);
                          });
                        }});
  std::unique_ptr<TokenRecurrence> by_token;
  const auto device = MakeCpuDevice();
  std::vector<Tensor> wide;
  TokenRecurrence::Rows rows = {};
  if (decay == Decay::kScalar) {
    by_token = std::make_unique<TokenRecurrence>(rule, kTokens);
    const auto floats = [&](const Tensor& x) -> float* {
      wide.push_back(x.defined() ? x.CopyTo(DType::kF32)
                                 : Tensor::Zeros(*device, {kTokens, kWidth}, DType::kF32));
      return wide.back().data<float>();
    };
    rows = {floats(problem.q),          floats(problem.k),
            floats(problem.v),          floats(Exp(problem.log_decay)),
            floats(problem.beta),       floats(problem.a),
            floats(problem.b),          floats(problem.dout),
            floats(problem.out),        floats(problem.dq),
            floats(problem.dk),         floats(problem.dv),
            floats(problem.dlog_decay), floats(problem.dbeta),
            floats(problem.da),         floats(problem.db)};
    candidates.push_back({"by_token", [&] {
                            backward ? by_token->ForwardAndBackward(rows) : by_token->Forward(rows);
                          }});
  }
  for (Candidate& candidate : candidates) candidate.run();
  if (decay == Decay::kScalar && dtype == DType::kF32) {
    // The contenders compute the same.
    const std::vector<double> got = (backward ? problem.dk : problem.out).ToVector();
    const float* want = backward ? rows.dk : rows.out;
    for (int64_t i = 0; i < kTokens * kWidth; ++i) {
      if (std::abs(got[i] - want[i]) > 1e-3 * (1 + std::abs(got[i]))) {
        state.SkipWithError("the token recurrence computes something else");
        return;
      }
    }
  }
  for (auto _ : state) {
    for (Candidate& candidate : candidates) candidate.Time();
    state.SetIterationTime(candidates[0].seconds);
  }
  const double ours = candidates[0].seconds;
  state.counters["us_token"] = 1e6 * ours / kTokens;
  state.counters["gflops"] = 1e-9 * products.flops() * (kTokens / kChunkTokens) / ours;
  state.counters["products"] = candidates[1].seconds / ours;
  state.counters["library"] = std::min(candidates[2].seconds, candidates[3].seconds) / ours;
  if (by_token != nullptr) {
    state.counters["by_token_us"] = 1e6 * candidates[4].seconds / kTokens;
    state.counters["speedup"] = candidates[4].seconds / ours;
  }
}

void RunLengths(benchmark::State& state, StateRule rule, Decay decay, bool backward) {
  constexpr int64_t kLengths[] = {1024, 4096, 16384, 65536};
  std::vector<std::unique_ptr<Problem>> problems;
  std::vector<Candidate> candidates;
  for (const int64_t n : kLengths) {
    problems.push_back(std::make_unique<Problem>(rule, decay, DType::kF32, n));
    candidates.push_back({std::to_string(n), [backward, problem = problems.back().get()] {
                            backward ? problem->ForwardAndBackward() : problem->Forward();
                          }});
  }
  for (Candidate& candidate : candidates) candidate.run();
  for (auto _ : state) {
    for (Candidate& candidate : candidates) candidate.Time();
    state.SetIterationTime(candidates[0].seconds);
  }
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const double rate = kLengths[i] / candidates[i].seconds;
    state.counters["tokens_s_" + candidates[i].name] = rate;
    low = std::min(low, rate);
    high = std::max(high, rate);
  }
  state.counters["flat"] = low / high;
}

void RegisterAll() {
  const auto add = [](const std::string& name, auto run) {
    return benchmark::RegisterBenchmark(name.c_str(), run)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  };
  for (const auto& [rule, rule_name] : {std::pair(StateRule::kDiagonal, "diagonal"),
                                        {StateRule::kDelta, "delta"},
                                        {StateRule::kLowRank, "low_rank"}}) {
    for (const auto& [decay, decay_name] : {std::pair(Decay::kNone, "none"),
                                            {Decay::kScalar, "scalar"},
                                            {Decay::kChannel, "channel"}}) {
      for (const bool backward : {false, true}) {
        const std::string kind = std::string("/") + rule_name + "/" + decay_name + "/";
        const std::string passes = backward ? "/forward_backward" : "/forward";
        for (const DType dtype : {DType::kF32, DType::kBF16}) {
          add("recurrence" + kind + DTypeName(dtype) + passes,
              [=, rule = rule, decay = decay](benchmark::State& state) {
                RunKernel(state, rule, decay, dtype, backward);
              });
        }
        if (decay != Decay::kNone) {
          add("lengths" + kind + "f32" + passes, [=, rule = rule,
                                                  decay = decay](benchmark::State& state) {
            RunLengths(state, rule, decay, backward);
          })->Iterations(6);
        }
      }
    }
  }
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  openblas_set_num_threads(1);
  if (omp_set_num_threads != nullptr) omp_set_num_threads(1);
  trireme::bench::RegisterAll();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
