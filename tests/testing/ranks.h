// The worlds a test runs on. One program serves all: run plainly it has one rank in a process and
// ranks that are threads; under mpiexec with --mpi, each process is a rank (see trireme_mpi_test).
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "core/device/device.h"
#include "parallel/comm/communicator.h"

namespace trireme::testing {

struct TestWorld {
  enum Kind { kSelf, kLocal, kMpi };
  Kind kind = kSelf;
  int size = 1;

  std::string Name() const;  // "self", "local4", "mpi2"
};
std::ostream& operator<<(std::ostream& out, const TestWorld& world);

// For INSTANTIATE_TEST_SUITE_P: self and 1, 2, 3, 4, 8 threads; under mpiexec the MPI world alone,
// to which tests are filtered then. Tests of one rank alone are run plainly only.
std::vector<TestWorld> TestWorlds();
std::string WorldName(const ::testing::TestParamInfo<TestWorld>& info);

// Calls fn on every rank of a new world, each with its own device (see device.h; GPUs talk by
// NCCL), and expects OK from each. Expectations inside fn hold on the rank that checks them.
void OnRanks(const TestWorld& world, const CommOptions& options,
             const std::function<Status(Device& device, Communicator& world)>& fn);
// The same; what the world returned (under MPI: what this rank did).
Status RunOn(const TestWorld& world, const CommOptions& options,
             const std::function<Status(Device& device, Communicator& world)>& fn);

}  // namespace trireme::testing
