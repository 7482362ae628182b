// What an exchange between replicas costs beside the plain all-reduce of as many f32, interleaved
// in one run: over MPI, and over as many ranks that are threads.
//   mpirun -n 4 build/bench/exchange_bench [MiB] [repeats]
// Times are medians of the slowest rank's. `mean`: replicas take the mean of their parameters.
// `mix`: the identity codec by all_reduce, in place. `outer`: the mix of differences from an
// anchor, with the passes that make them and the outer step after it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/clock.h"

#include "core/base/log.h"
#include "core/ops/devices.h"
#include "parallel/comm/local.h"
#include "parallel/comm/mpi.h"
#include "parallel/sync/mixer.h"
#include "parallel/sync/outer.h"
#include "parallel/sync/round_exchange.h"

namespace trireme {
namespace {

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// The slowest rank's seconds for fn, the ranks starting together.
double Slowest(Communicator& world, Device& device, const std::function<void()>& fn) {
  ThrowIfError(world.Barrier({"start"})->Wait());
  const absl::Time begin = absl::Now();
  fn();
  const Tensor seconds =
      Tensor::Full(device, {1}, DType::kF64, absl::ToDoubleSeconds(absl::Now() - begin));
  world.AllReduce(seconds, {.purpose = "time", .op = ReduceOp::kMax})->Join(device.compute());
  return seconds.Item();
}

struct Row {
  std::string name;
  std::vector<double> seconds;
};

std::vector<Row> Measure(Communicator& world, int64_t n, int repeats) {
  const auto device = MakeCpuDevice();
  const auto full = [&](double value) { return Tensor::Full(*device, {n}, DType::kF32, value); };
  const Tensor x = full(1), theta = full(1), anchor = full(1), momentum = full(0);
  const auto codec = ValueOrThrow(MakeCodec("identity"));
  const auto mixer = ValueOrThrow(MakeMixer("all_reduce"));
  const auto diloco = ValueOrThrow(MakeOuter("sgd", {}));
  const CodecPiece piece = {1, {n}, 0, n};
  const std::vector<double> weights(world.size(), 1.0 / world.size());
  const auto mix = [&](const Tensor& values) {
    MixInput input{world, {*codec, {&piece, 1}, {}, weights}, values, values, {}, {}, {}, {}};
    ThrowIfError(ValueOrThrow(mixer->Start(input))->Finish());
  };
  RoundEnd end;
  end.weights = weights;
  const auto mean = MakeDirectMean(world, *device, {x}, "bench");
  OuterStep step;
  step.theta = theta.view();
  step.delta = x.view();
  const std::vector<std::pair<std::string, std::function<void()>>> ways = {
      {"all_reduce", [&] { world.AllReduce(x, {"bench"})->Join(device->compute()); }},
      {"mix", [&] { mix(x); }},
      {"mean",
       [&] {
         ThrowIfError(mean->Send(end));
         ThrowIfError(mean->Apply(end));
       }},
      {"outer", [&] {
         float *d = x.data<float>(), *a = anchor.data<float>(), *t = theta.data<float>();
#pragma omp simd
         for (int64_t i = 0; i < n; ++i) d[i] = a[i] - t[i];
         mix(x);
         const View state = momentum.view();
         OuterStep with_anchor = step;
         with_anchor.anchor = anchor.view();
         with_anchor.states = {&state, 1};
         diloco->Apply(with_anchor);
       }}};
  std::vector<Row> rows;
  for (const auto& [name, way] : ways) rows.push_back({name, {}});
  for (int i = 0; i <= repeats; ++i) {
    for (size_t k = 0; k < ways.size(); ++k) {
      const size_t w = (i + k) % ways.size();  // Each comes after each.
      x.Fill(1);
      const double seconds = Slowest(world, *device, ways[w].second);
      if (i > 0) rows[w].seconds.push_back(seconds);  // The first warms up.
    }
  }
  return rows;
}

void Print(const char* transport, int size, const std::vector<Row>& rows) {
  const double plain = Median(rows[0].seconds);
  for (const Row& row : rows) {
    const double seconds = Median(row.seconds);
    std::printf("%-8s %6d  %-12s %10.2f %8.3f\n", transport, size, row.name.c_str(), seconds * 1e3,
                seconds / plain);
  }
}

void Run(MpiSession& session, int64_t n, int repeats) {
  const auto world = ValueOrThrow(session.World({}));
  const std::vector<Row> rows = Measure(*world, n, repeats);
  if (world->rank() == 0) {
    std::printf("exchange of %lld f32\n%-8s %6s  %-12s %10s %8s\n", static_cast<long long>(n),
                "ranks", "", "", "ms", "ratio");
    Print("mpi", world->size(), rows);
    // The other processes wait for this one's threads.
    std::vector<Row> local_rows;
    ThrowIfError(RunOnRanks(world->size(), {}, [&](Communicator& local) {
      std::vector<Row> own = Measure(local, n, repeats);
      if (local.rank() == 0) local_rows = std::move(own);
      return absl::OkStatus();
    }));
    Print("threads", world->size(), local_rows);
  }
  ThrowIfError(world->Barrier({"local"})->Wait());
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  const auto session = trireme::ValueOrThrow(trireme::MpiSession::Start());
  const int64_t mib = argc > 1 ? std::atoll(argv[1]) : 16;
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 15;
  trireme::Run(*session, (mib << 20) / 4, repeats);
  return session->Finish().ok() ? 0 : 1;
}
