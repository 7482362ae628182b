// Which device ranks choose, and what they are told.
#include "launch/rank_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/device/plugin.h"
#include "parallel/comm/local.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

TEST(RankDeviceTest, WithoutADriverAutoIsTheCpuAndSaysWhy) {
  if (HasCudaDriver()) GTEST_SKIP() << "this machine has one";
  const Status status = RunOnRanks(2, {}, [](Communicator& world) -> Status {
    ASSIGN_OR_RETURN(const RankDevice made, MakeRankDevice(world, {"auto"}, world.rank(), 1, {}));
    EXPECT_EQ(made.device->name(), "cpu");
    EXPECT_EQ(made.communicator, nullptr);
    EXPECT_EQ(made.remark, "device: cpu (rank 0: no CUDA driver (libcuda.so.1) on this machine)");
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(RankDeviceTest, WithoutADriverCudaIsAnError) {
  if (HasCudaDriver()) GTEST_SKIP() << "this machine has one";
  const auto world = MakeSelfCommunicator();
  const Status status = MakeRankDevice(*world, {"cuda"}, 0, 1, {}).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("no CUDA driver"));
}

TEST(RankDeviceTest, APluginThatIsNotThereIsNamed) {
  const auto world = MakeSelfCommunicator();
  const Status status = MakeRankDevice(*world, {"cuda_nowhere"}, 0, 1, {}).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("libtrireme_cuda_nowhere.so"));
}

}  // namespace
}  // namespace trireme
