// All-reduce of f32: over MPI, over local ranks, and MPI_Allreduce called directly, interleaved in
// one run.
//   mpirun -n 2 build/bench/comm_bench [largest MiB]
// Medians of the slowest rank's times; the rate is the tensor's bytes over the time. Then the
// processor time of ranks that wait for one that sleeps.
#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <vector>

#include "absl/time/clock.h"

#include "core/ops/devices.h"
#include "parallel/comm/local.h"
#include "parallel/comm/mpi.h"

namespace trireme {
namespace {

double SecondsOf(const std::function<void()>& fn) {
  const absl::Time begin = absl::Now();
  fn();
  return absl::ToDoubleSeconds(absl::Now() - begin);
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// The slowest rank's seconds for one all-reduce, the ranks starting together.
double Slowest(Communicator& world, Device& device, const std::function<void()>& fn) {
  ThrowIfError(world.Barrier({"start"})->Wait());
  const Tensor seconds = Tensor::Full(device, {1}, DType::kF64, SecondsOf(fn));
  world.AllReduce(seconds, {.purpose = "time", .op = ReduceOp::kMax})->Join(device.compute());
  return seconds.Item();
}

double LocalSeconds(int size, int64_t n, int repeats) {
  std::vector<double> seconds(repeats);
  ThrowIfError(RunOnRanks(size, {}, [&](Communicator& local) {
    const auto device = MakeCpuDevice();
    const Tensor x = Tensor::Full(*device, {n}, DType::kF32, 1);
    for (int i = 0; i <= repeats; ++i) {
      const double once =
          Slowest(local, *device, [&] { local.AllReduce(x, {"bench"})->Join(device->compute()); });
      if (local.rank() == 0 && i > 0) seconds[i - 1] = once;  // The first warms up.
    }
    return absl::OkStatus();
  }));
  return Median(seconds);
}

void Run(MpiSession& session, int64_t largest_bytes) {
  const auto device = MakeCpuDevice();
  const auto world = ValueOrThrow(session.World({}));
  if (world->rank() == 0) {
    std::printf("%d ranks, all-reduce of f32\n%12s %12s %12s %14s %8s %8s %8s\n", world->size(),
                "bytes", "mpi us", "local us", "MPI_Allreduce", "mpi GB/s", "local", "direct");
  }
  for (int64_t bytes = 64; bytes <= largest_bytes; bytes *= 8) {
    const int repeats = bytes < 1 << 20 ? 31 : 7;
    const int64_t n = bytes / 4;
    const Tensor x = Tensor::Full(*device, {n}, DType::kF32, 1);
    std::vector<double> ours, direct;
    for (int i = 0; i <= repeats; ++i) {
      const double once = Slowest(*world, *device,
                                  [&] { world->AllReduce(x, {"bench"})->Join(device->compute()); });
      // Nothing of ours is in flight now: its thread makes no calls of MPI.
      const double plain = Slowest(*world, *device, [&] {
        if (MPI_Allreduce(MPI_IN_PLACE, x.raw(), static_cast<int>(n), MPI_FLOAT, MPI_SUM,
                          MPI_COMM_WORLD) != MPI_SUCCESS) {
          throw Failure(absl::InternalError("MPI_Allreduce"));
        }
      });
      if (i == 0) continue;
      ours.push_back(once);
      direct.push_back(plain);
    }
    // The other processes wait for this one's threads.
    const double local = world->rank() == 0 ? LocalSeconds(world->size(), n, repeats) : 0;
    ThrowIfError(world->Barrier({"local"})->Wait());
    if (world->rank() != 0) continue;
    const double a = Median(ours), b = local, c = Median(direct);
    std::printf("%12lld %12.1f %12.1f %14.1f %8.2f %8.2f %8.2f\n", static_cast<long long>(bytes),
                a * 1e6, b * 1e6, c * 1e6, bytes / a * 1e-9, bytes / b * 1e-9, bytes / c * 1e-9);
  }

  const std::clock_t before = std::clock();
  if (world->rank() == 0) absl::SleepFor(absl::Seconds(2));
  ThrowIfError(world->Barrier({"wait"})->Wait());
  const double share = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC / 2;
  const Tensor shares = Tensor::Full(*device, {1}, DType::kF64, world->rank() == 0 ? 0 : share);
  world->AllReduce(shares, {.purpose = "share", .op = ReduceOp::kMax})->Join(device->compute());
  if (world->rank() == 0)
    std::printf("a waiting rank uses %.1f %% of a core\n", 100 * shares.Item());
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  const auto session = trireme::ValueOrThrow(trireme::MpiSession::Start());
  const int64_t largest_mib = argc > 1 ? std::atoll(argv[1]) : 64;
  trireme::Run(*session, largest_mib << 20);
  return session->Finish().ok() ? 0 : 1;
}
