#include "tests/testing/ranks.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "parallel/comm/local.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/nccl.h"
#include "tests/testing/device.h"

namespace trireme::testing {
namespace {

// Set by main before the tests are made.
MpiSession* mpi_session = nullptr;
int mpi_size = 0;

// What failed, and where: the default printer speaks for rank 0 only.
class FailurePrinter : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo& test) override { test_ = test.name(); }
  void OnTestEnd(const ::testing::TestInfo&) override { test_ = kOutside; }
  // GoogleTest holds its lock here, so it cannot be asked for the test.
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    LOG(ERROR) << test_ << " failed at "
               << (result.file_name() != nullptr ? result.file_name() : "?") << ":"
               << result.line_number() << "\n"
               << result.message();
  }

  static constexpr const char* kOutside = "something outside a test";
  std::string test_ = kOutside;
};

}  // namespace

std::string TestWorld::Name() const {
  if (kind == kSelf) return "self";
  return absl::StrCat(kind == kLocal ? "local" : "mpi", size);
}

std::ostream& operator<<(std::ostream& out, const TestWorld& world) { return out << world.Name(); }

std::vector<TestWorld> TestWorlds() {
  if (mpi_session != nullptr) return {{TestWorld::kMpi, mpi_size}};
  std::vector<TestWorld> worlds = {{TestWorld::kSelf, 1}};
  for (const int size : {1, 2, 3, 4, 8}) worlds.push_back({TestWorld::kLocal, size});
  return worlds;
}

std::string WorldName(const ::testing::TestParamInfo<TestWorld>& info) { return info.param.Name(); }

Status RunOn(const TestWorld& world, const CommOptions& options,
             const std::function<Status(Device& device, Communicator& world)>& fn) {
  const auto on_rank = [&](Communicator& communicator) {
    const std::unique_ptr<Device> device = MakeTestDevice({}, communicator.rank());
    std::unique_ptr<Communicator> on_device;
    if (!OnCpu()) {
      ASSIGN_OR_RETURN(on_device, MakeNcclWorld(DeviceLibrary(), communicator, *device, options));
    }
    Status status;
    const Status failure = CatchFailure(
        [&] { status = fn(*device, on_device == nullptr ? communicator : *on_device); });
    return failure.ok() ? status : failure;
  };
  switch (world.kind) {
    case TestWorld::kSelf:
      return on_rank(*MakeSelfCommunicator(options));
    case TestWorld::kLocal:
      return RunOnRanks(world.size, options, on_rank);
    case TestWorld::kMpi: {
      ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> communicator,
                       mpi_session->World(options));
      return on_rank(*communicator);
    }
  }
  return absl::InternalError("no such world");
}

void OnRanks(const TestWorld& world, const CommOptions& options,
             const std::function<Status(Device& device, Communicator& world)>& fn) {
  const Status status = RunOn(world, options, fn);
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace trireme::testing

// Linked instead of tests/testing/main.cc by programs that use ranks.
int main(int argc, char** argv) {
  trireme::testing::ParseDeviceFlag(&argc, argv);
  std::unique_ptr<trireme::MpiSession> session;
  if (argc > 1 && std::strcmp(argv[1], "--mpi") == 0) {
    session = trireme::ValueOrThrow(trireme::MpiSession::Start());
    const auto world = trireme::ValueOrThrow(session->World({}));
    trireme::testing::mpi_session = session.get();
    trireme::testing::mpi_size = world->size();
    trireme::SetLogRank(world->rank());
    ::testing::GTEST_FLAG(filter) = "*/mpi*";
    if (world->rank() != 0) {
      auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
      delete listeners.Release(listeners.default_result_printer());
    }
    ::testing::UnitTest::GetInstance()->listeners().Append(new trireme::testing::FailurePrinter);
  }
  ::testing::InitGoogleTest(&argc, argv);
  const int verdict = RUN_ALL_TESTS();
  // The exit code of any rank is the verdict: mpiexec fails when one process does.
  if (session != nullptr) CHECK_OK(session->Finish());
  return verdict;
}
