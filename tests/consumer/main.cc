// Two ranks sum a gradient, with nothing but the installed headers and libraries.
#include <cstdio>

#include "trireme.h"

int main() {
  using namespace trireme;
  const Status status = RunOnRanks(2, {}, [](Communicator& world) -> Status {
    const auto cpu = MakeCpuDevice({.num_threads = 1});
    Tensor w = Tensor::FromVector(*cpu, {1, 2}, {1, 2}, DType::kF64).set_requires_grad();
    const Tensor x = Tensor::FromVector(*cpu, {1, 2}, {3, 4.0 + world.rank()}, DType::kF64);
    Linear(x, w).Backward();
    RETURN_IF_ERROR(world.AllReduce(w.grad(), {.purpose = "gradients"})->Wait());
    const std::vector<double> sum = w.grad().ToVector();
    return sum == std::vector<double>{6, 9} ? absl::OkStatus() : absl::InternalError("wrong sum");
  });
  std::printf("%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
