// Codecs on one thread: bytes of input per second against memcpy, powersgd against its products.
//
// The contenders of a line run in turn in every iteration, each timed by the CPU time of its
// thread, and the best times are compared. Counters:
//   encode, decode  GB of values per second
//   memcpy          of as many bytes, GB/s
//   encode_memcpy, decode_memcpy  the rates over memcpy's
//   products        powersgd: the time of its three products alone, by the same library, over that
//                   of a round
#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/ops/cpu/gemm_library.h"
#include "core/ops/devices.h"
#include "parallel/sync/codec.h"

namespace trireme::bench {
namespace {

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

struct Candidate {
  std::function<void()> run;
  double seconds = std::numeric_limits<double>::infinity();

  void Time() {
    const double start = ThreadSeconds();
    run();
    seconds = std::min(seconds, ThreadSeconds() - start);
  }
};

View ViewOf(std::vector<float>& values) {
  View view;
  view.data = values.data();
  view.rank = 1;
  view.sizes[0] = static_cast<int64_t>(values.size());
  view.strides[0] = 1;
  return view;
}

std::vector<float> NormalVector(int64_t n) {
  std::vector<float> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = static_cast<float>(NormalAt({1, 2}, i));
  return values;
}

std::unique_ptr<Codec> CodecOrDie(const std::string& name, const ParamMap& params) {
  auto codec = MakeCodec(name, params);
  CHECK(codec.ok()) << codec.status().ToString();
  return std::move(*codec);
}

void BenchCodec(benchmark::State& state, const std::string& name, const ParamMap& params,
                int64_t n) {
  const auto codec = CodecOrDie(name, params);
  const CodecPiece piece{1, {n}, 0, n};
  std::vector<float> values = NormalVector(n), decoded(n, 1), copy(n, 1);
  std::vector<uint8_t> bytes(codec->EncodedBytes(piece, DType::kF32), 1);
  // Whatever is larger than the caches is so for all alike.
  const int repeats = static_cast<int>(std::max<int64_t>(1, (1 << 20) / n));
  const auto repeated = [repeats](auto fn) {
    return [repeats, fn] {
      for (int i = 0; i < repeats; ++i) {
        fn();
        benchmark::ClobberMemory();
      }
    };
  };
  Candidate encode{repeated([&] {
    codec->Encode(piece, {1, 2}, ViewOf(values), absl::MakeSpan(bytes));
  })};
  Candidate decode{repeated([&] { codec->Decode(piece, {1, 2}, bytes, ViewOf(decoded)); })};
  Candidate memory{repeated([&] { std::memcpy(copy.data(), values.data(), n * 4); })};
  for (auto _ : state) {
    for (Candidate* candidate : {&encode, &memory, &decode}) candidate->Time();
  }
  const double gigabytes = 4e-9 * n * repeats;
  state.counters["encode"] = gigabytes / encode.seconds;
  state.counters["decode"] = gigabytes / decode.seconds;
  state.counters["memcpy"] = gigabytes / memory.seconds;
  state.counters["encode_memcpy"] = memory.seconds / encode.seconds;
  state.counters["decode_memcpy"] = memory.seconds / decode.seconds;
}

void BenchPowerSgd(benchmark::State& state, int64_t rank, int64_t n, int64_t m) {
  const auto codec = CodecOrDie("powersgd", {{"rank", std::to_string(rank)}});
  const CodecPiece piece{1, {n, m}, 0, n * m};
  std::vector<float> values = NormalVector(n * m), decoded(n * m, 1);
  std::vector<float> factors(codec->LinearStateSize(piece));
  codec->LinearStart(piece, 1, ViewOf(factors));
  std::vector<float> wires[2];
  for (int pass = 0; pass < 2; ++pass) wires[pass].resize(codec->LinearSize(piece, pass));
  Candidate round{[&] {
    for (int pass = 0; pass < 2; ++pass) {
      codec->LinearEncode(pass, piece, {1, 2}, ViewOf(values), ViewOf(factors),
                          ViewOf(wires[pass]));
      codec->LinearDecode(pass, piece, {1, 2}, ViewOf(wires[pass]), ViewOf(factors),
                          ViewOf(decoded));
    }
  }};
  GemmLibrary library;
  const auto device = MakeCpuDevice();
  const int64_t r = std::min({rank, n, m});
  const auto multiply = [&](int64_t a_rows, int64_t b_columns, int64_t inner, MatrixRef a,
                            MatrixRef b, void* c) {
    library.Run({DType::kF32, DType::kF32, a_rows, b_columns, inner, a, b, c, b_columns}, *device);
  };
  Candidate products{[&] {
    multiply(r, n, m, {wires[1].data(), m}, {values.data(), m, true}, wires[0].data());
    multiply(r, m, n, {wires[0].data(), n}, {values.data(), m}, wires[1].data());
    multiply(n, m, r, {wires[0].data(), n, true}, {wires[1].data(), m}, decoded.data());
  }};
  for (auto _ : state) {
    round.Time();
    products.Time();
  }
  state.counters["round_us"] = round.seconds * 1e6;
  state.counters["products"] = products.seconds / round.seconds;
}

void RegisterAll() {
  struct Line {
    const char* name;
    ParamMap params;
  };
  const Line lines[] = {
      {"identity", {}},
      {"f16", {}},
      {"bf16", {}},
      {"int8", {}},
      {"int8", {{"block", "0"}}},
      {"fp8_e4m3", {}},
      {"e3m0", {}},
      {"two_bit", {}},
      {"sign", {}},
      {"sign", {{"norm", "l1"}}},
      {"top_k", {{"fraction", "0.001"}}},
      {"top_k", {{"fraction", "0.01"}}},
      {"top_k", {{"fraction", "0.1"}}},
      {"top_k", {{"fraction", "0.01"}, {"block", "0"}}},
      {"rand_k", {}},
  };
  for (const int64_t n : {int64_t{1} << 14, int64_t{1} << 22}) {
    for (const Line& line : lines) {
      std::string label = line.name;
      for (const auto& [key, value] : line.params) label += "/" + key + ":" + value;
      benchmark::RegisterBenchmark(
          (label + "/n:" + std::to_string(n)).c_str(),
          [=](benchmark::State& state) { BenchCodec(state, line.name, line.params, n); });
    }
  }
  for (const int64_t rank : {1, 2, 4, 16, 64}) {
    for (const auto& [n, m] : {std::pair<int64_t, int64_t>{1024, 1024}, {512, 4608}, {4096, 256}}) {
      benchmark::RegisterBenchmark(
          ("powersgd/rank:" + std::to_string(rank) + "/" + std::to_string(n) + "x" +
           std::to_string(m))
              .c_str(),
          [=, n = n, m = m](benchmark::State& state) { BenchPowerSgd(state, rank, n, m); });
    }
  }
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  trireme::bench::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
}
