// Ranks on GPUs that do not come or that fail: the others end, soon and with the reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"

#include "parallel/comm/communicator.h"
#include "parallel/comm/local.h"
#include "parallel/comm/nccl.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What rank 0 was told, when rank 1 of two ran `other` in place of the call.
Status ToldToRankZero(absl::Duration deadline, const std::function<Status()>& other) {
  CommOptions options;
  options.deadline = deadline;
  Status told, device_told;
  const Status world_told = RunOnRanks(2, {}, [&](Communicator& control) -> Status {
    const auto device = testing::MakeTestDevice({}, control.rank());
    ASSIGN_OR_RETURN(const auto world,
                     MakeNcclWorld(testing::DeviceLibrary(), control, *device, options));
    // Not while the other still makes its world, which would fail instead.
    RETURN_IF_ERROR(control.Barrier({"both have a world"})->Wait());
    if (control.rank() == 1) return other();
    const Tensor x = Tensor::Zeros(*device, {100}, DType::kF32);
    told = world->AllReduce(x, {"gradients"})->Wait();
    device_told = device->Synchronize();
    return absl::OkStatus();
  });
  EXPECT_EQ(device_told, told) << "what was computed with it is worth nothing";
  EXPECT_EQ(world_told.ok(), absl::IsDeadlineExceeded(told)) << world_told;
  return told;
}

TEST(NcclFailuresTest, ARankThatDoesNotComeIsNotWaitedForForEver) {
  if (testing::OnCpu()) GTEST_SKIP() << "of GPUs";
  const absl::Time begin = absl::Now();
  const Status told = ToldToRankZero(absl::Milliseconds(500), [] {
    absl::SleepFor(absl::Seconds(2));
    return absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsDeadlineExceeded(told)) << told;
  EXPECT_THAT(told.message(),
              AllOf(HasSubstr("all_reduce 'gradients' along world"), HasSubstr("500ms")));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
}

TEST(NcclFailuresTest, ARankThatFailsEndsTheOthers) {
  if (testing::OnCpu()) GTEST_SKIP() << "of GPUs";
  const absl::Time begin = absl::Now();
  const Status told = ToldToRankZero(absl::Seconds(300),
                                     [] { return absl::DataLossError("the shard is cut short"); });
  EXPECT_THAT(told.ToString(), HasSubstr("the shard is cut short"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
}

TEST(NcclFailuresTest, ACallThatIsGivenUpLetsItsMemoryGo) {
  if (testing::OnCpu()) GTEST_SKIP() << "of GPUs";
  const Status status = RunOnRanks(2, {}, [&](Communicator& control) -> Status {
    const auto device = testing::MakeTestDevice({}, control.rank());
    ASSIGN_OR_RETURN(const auto world,
                     MakeNcclWorld(testing::DeviceLibrary(), control, *device, {}));
    RETURN_IF_ERROR(control.Barrier({"both have a world"})->Wait());
    if (control.rank() == 1) return absl::OkStatus();
    const int64_t before = device->stats().current_total_bytes;
    { const auto work = world->AllReduce(Tensor::Zeros(*device, {100}, DType::kF32), {"lost"}); }
    EXPECT_EQ(device->stats().current_total_bytes, before);
    EXPECT_TRUE(absl::IsCancelled(device->Synchronize()));
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(NcclFailuresTest, TwoRanksOnOneGpuAreRefused) {
  if (testing::OnCpu()) GTEST_SKIP() << "of GPUs";
  const Status status = RunOnRanks(3, {}, [&](Communicator& control) -> Status {
    const auto device = testing::MakeTestDevice({}, control.rank() / 2);
    return MakeNcclWorld(testing::DeviceLibrary(), control, *device, {}).status();
  });
  EXPECT_THAT(status.ToString(), HasSubstr("ranks 0 and 1 are on one GPU"));
}

}  // namespace
}  // namespace trireme
