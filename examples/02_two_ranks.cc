// Ranks: two threads, each with a device of its own, that sum their gradients. Under mpirun the
// same lines run in two processes; only the communicator is made differently.
#include <cstdio>

#include "trireme.h"

using namespace trireme;

int main() {
  const Status status = RunOnRanks(2, {}, [](Communicator& world) {
    const auto cpu = MakeCpuDevice();
    Tensor w = Tensor::FromVector(*cpu, {2}, {1, 1}, DType::kF64).set_requires_grad();

    // Each rank has its own sample: rank 0 sees (1, 2), rank 1 sees (3, 4).
    const double first = 1 + 2 * world.rank();
    const Tensor x = Tensor::FromVector(*cpu, {2}, {first, first + 1}, DType::kF64);
    const Tensor error = Add(Sum(Mul(x, w)), -1.0);
    Mul(error, error).Backward();

    // The call returns at once; Wait ends when the sum is there.
    const auto work = world.AllReduce(w.grad(), {.purpose = "gradients"});
    ThrowIfError(work->Wait());
    if (world.rank() == 0) std::printf("summed gradient = %s\n", ToString(w.grad()).c_str());
    return absl::OkStatus();
  });
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
