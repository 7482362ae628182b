// What the emulated device says of kernels: each check is tripped by one kernel, and not by its right
// neighbour.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/test_kernels.h"

namespace trireme::emulation {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class KernelChecksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (float** block : {&x_, &out_}) {
      ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(block), kCount * sizeof(float)), cudaSuccess);
    }
    std::vector<float> ones(kCount, 1.0f);
    ASSERT_EQ(cudaMemcpyAsync(x_, ones.data(), kCount * sizeof(float), cudaMemcpyHostToDevice, nullptr),
              cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_THAT(TakeErrors(), IsEmpty());
    for (float* block : {x_, out_}) EXPECT_EQ(cudaFree(block), cudaSuccess);
  }
  float Value(const float* from) {
    float value = -1;
    EXPECT_EQ(cudaMemcpyAsync(&value, from, sizeof(float), cudaMemcpyDeviceToHost, nullptr),
              cudaSuccess);
    return value;
  }

  static constexpr int kCount = 1000;
  float* x_ = nullptr;    // Ones.
  float* out_ = nullptr;  // Uninitialized.
};

TEST_F(KernelChecksTest, RightKernelsRun) {
  ASSERT_EQ(Launch(Scale, 4, 256, 0, nullptr, x_, 2.0f, kCount), cudaSuccess);
  ASSERT_EQ(Launch(BlockSum, 1, 128, 16, nullptr, x_, out_, kCount), cudaSuccess);
  EXPECT_EQ(Value(out_), 2000);
}

TEST_F(KernelChecksTest, OutOfBounds) {
  ASSERT_EQ(Launch(WriteBeyond, 1, 1, 0, nullptr, x_, kCount - 1), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  ASSERT_EQ(Launch(WriteBeyond, 1, 1, 0, nullptr, x_, kCount), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_THAT(TakeErrors(), ElementsAre(AllOf(
      HasSubstr("WriteBeyond, block (0,0,0), thread (0,0,0): writes 4 bytes out of bounds"),
      HasSubstr("0 bytes past the end of the 4000-byte allocation"), HasSubstr("test_kernels.cu:"))));
}

TEST_F(KernelChecksTest, Uninitialized) {
  ASSERT_EQ(Launch(ReadAll, 1, 1, 0, nullptr, x_, out_, kCount), cudaSuccess);
  EXPECT_EQ(Value(out_), 1000);
  ASSERT_EQ(Launch(ReadAll, 1, 1, 0, nullptr, out_, x_, kCount), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_THAT(TakeErrors(), ElementsAre(AllOf(HasSubstr("reads 4 bytes that nobody wrote"),
                                              HasSubstr("byte 4 of the 4000-byte allocation"))));
}

TEST_F(KernelChecksTest, RaceWithinAWarp) {
  ASSERT_EQ(Launch(WriteSame, 1, 1, 0, nullptr, out_), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  ASSERT_EQ(Launch(WriteSame, 1, 2, 0, nullptr, out_), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_THAT(TakeErrors(), ElementsAre(AllOf(HasSubstr("thread (1,0,0): race: writes byte 0"),
                                              HasSubstr("written without a barrier between by"),
                                              HasSubstr("thread (0,0,0)"))));
}

TEST_F(KernelChecksTest, Misaligned) {
  ASSERT_EQ(Launch(ReadVector, 1, 1, 0, nullptr, x_ + 4, out_), cudaSuccess);
  EXPECT_EQ(Value(out_), 4);
  ASSERT_EQ(Launch(ReadVector, 1, 1, 0, nullptr, x_ + 2, out_), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorMisalignedAddress);
  EXPECT_THAT(TakeErrors(), ElementsAre(HasSubstr("is not aligned to 16 bytes")));
}

}  // namespace
}  // namespace trireme::emulation
