// The order of work: what streams and events allow happens, in one order or another, and what the
// host does too early or not at all shows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/machine.h"
#include "tests/cuda_emulation/test_kernels.h"

namespace trireme::emulation {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Ne;

bool NewestFirst() {
  const char* seed = getenv("TRIREME_EMULATION_SEED");
  return seed == nullptr || atoi(seed) == 0;
}

class StreamsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Machine::Get().SetPatience(std::chrono::minutes(1));
    for (cudaStream_t* stream : {&a_, &b_}) {
      ASSERT_EQ(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), cudaSuccess);
    }
    ASSERT_EQ(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), cudaSuccess);
    x_ = OnDevice(std::vector<float>(kCount, 1.0f));
    ASSERT_EQ(cudaHostAlloc(reinterpret_cast<void**>(&pinned_), kBytes, cudaHostAllocDefault),
              cudaSuccess);
    for (int i = 0; i < kCount; ++i) pinned_[i] = 5;
  }
  void TearDown() override {
    Machine::Get().SetPatience(kPatience);
    EXPECT_THAT(TakeErrors(), IsEmpty());
    EXPECT_EQ(cudaFree(x_), cudaSuccess);
    EXPECT_EQ(cudaFreeHost(pinned_), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(event_), cudaSuccess);
    for (cudaStream_t stream : {a_, b_}) EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  }

  static constexpr int kCount = 64;
  static constexpr size_t kBytes = kCount * sizeof(float);
  cudaStream_t a_ = nullptr, b_ = nullptr;
  cudaEvent_t event_ = nullptr;
  float* x_ = nullptr;       // Ones on the device.
  float* pinned_ = nullptr;  // Fives on the host.
};

TEST_F(StreamsTest, AWaitOrdersStreams) {
  float* y = DeviceArray<float>(kCount);
  ASSERT_EQ(cudaMemcpyAsync(y, x_, kBytes, cudaMemcpyDeviceToDevice, a_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(b_, event_, 0), cudaSuccess);
  ASSERT_EQ(Launch(Scale, 1, kCount, 0, b_, y, 3.0f, kCount), cudaSuccess);
  EXPECT_THAT(OnHost(y, kCount, b_), Each(3));
  EXPECT_EQ(cudaFree(y), cudaSuccess);
}

TEST_F(StreamsTest, AMissingWaitShows) {
  if (!NewestFirst()) GTEST_SKIP() << "the order is the seed's";
  float* y = DeviceArray<float>(kCount);
  ASSERT_EQ(cudaMemcpyAsync(y, x_, kBytes, cudaMemcpyDeviceToDevice, a_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  ASSERT_EQ(Launch(Scale, 1, kCount, 0, b_, y, 3.0f, kCount), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(b_), cudaErrorIllegalAddress);
  EXPECT_THAT(TakeErrors(), ElementsAre(HasSubstr("that nobody wrote")));
  EXPECT_EQ(cudaFree(y), cudaSuccess);
}

TEST_F(StreamsTest, AnEventIsWhatWasRecordedBeforeTheWait) {
  // The wait is for the first record; the second comes after work that waits for the first.
  ASSERT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(b_, event_, 0), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event_, b_), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(event_), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event_), cudaSuccess);
}

TEST_F(StreamsTest, NothingRunsUntilSomebodyWaits) {
  ASSERT_EQ(Launch(Scale, 1, kCount, 0, a_, x_, 2.0f, kCount), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event_), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(a_), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(a_), cudaSuccess);
}

TEST_F(StreamsTest, OrNobodySaysAnythingForAWhile) {
  Machine::Get().SetPatience(kPatience);
  ASSERT_EQ(Launch(Scale, 1, kCount, 0, a_, x_, 2.0f, kCount), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  const auto begin = std::chrono::steady_clock::now();
  while (cudaEventQuery(event_) == cudaErrorNotReady &&
         std::chrono::steady_clock::now() - begin < std::chrono::seconds(10)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(cudaEventQuery(event_), cudaSuccess);
}

TEST_F(StreamsTest, PinnedMemoryIsReadLate) {
  ASSERT_EQ(cudaMemcpyAsync(x_, pinned_, kBytes, cudaMemcpyHostToDevice, a_), cudaSuccess);
  pinned_[3] = 6;  // Too early.
  EXPECT_EQ(OnHost(x_, kCount, a_)[3], 6);
}

TEST_F(StreamsTest, PinnedMemoryIsWrittenLate) {
  ASSERT_EQ(cudaMemcpyAsync(pinned_, x_, kBytes, cudaMemcpyDeviceToHost, a_), cudaSuccess);
  EXPECT_EQ(pinned_[0], 5);
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  EXPECT_EQ(pinned_[0], 1);
}

TEST_F(StreamsTest, PageableMemoryIsReadAtOnce) {
  std::vector<float> values(kCount, 9);
  ASSERT_EQ(cudaMemcpyAsync(x_, values.data(), kBytes, cudaMemcpyHostToDevice, a_), cudaSuccess);
  std::fill(values.begin(), values.end(), 0.0f);
  EXPECT_THAT(OnHost(x_, kCount, a_), Each(9));
}

TEST_F(StreamsTest, TheLegacyStreamWaitsForBlockingOnes) {
  cudaStream_t blocking;
  ASSERT_EQ(cudaStreamCreateWithFlags(&blocking, cudaStreamDefault), cudaSuccess);
  for (int i = 0; i < 4; ++i) {
    // x = (x * 2 - ...): any other order gives other numbers.
    ASSERT_EQ(Launch(Scale, 1, kCount, 0, blocking, x_, 2.0f, kCount), cudaSuccess);
    ASSERT_EQ(cudaMemcpyAsync(pinned_ + i, x_ + i, sizeof(float), cudaMemcpyDeviceToHost, nullptr),
              cudaSuccess);
  }
  EXPECT_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(std::vector<float>(pinned_, pinned_ + 4), ElementsAre(2, 4, 8, 16));
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

TEST_F(StreamsTest, HostFunctionsAndTimes) {
  cudaEvent_t start, end;
  ASSERT_EQ(cudaEventCreateWithFlags(&start, cudaEventDefault), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&end, cudaEventDefault), cudaSuccess);
  int calls = 0;
  ASSERT_EQ(cudaEventRecord(start, a_), cudaSuccess);
  ASSERT_EQ(cudaLaunchHostFunc(
                a_, [](void* data) { ++*static_cast<int*>(data); }, &calls),
            cudaSuccess);
  ASSERT_EQ(cudaEventRecord(end, a_), cudaSuccess);
  float ms = -1;
  EXPECT_EQ(cudaEventElapsedTime(&ms, start, end), cudaErrorNotReady);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(cudaEventElapsedTime(&ms, start, end), cudaSuccess);
  EXPECT_GE(ms, 0);
  EXPECT_EQ(cudaEventElapsedTime(&ms, start, event_), cudaErrorInvalidResourceHandle);
  for (cudaEvent_t event : {start, end}) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(StreamsTest, CopiesAreChecked) {
  std::vector<float> values(kCount + 1);
  ASSERT_EQ(cudaMemcpyAsync(x_, values.data(), kBytes + 4, cudaMemcpyHostToDevice, a_),
            cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaErrorIllegalAddress);
  EXPECT_THAT(TakeErrors(),
              ElementsAre(HasSubstr("cudaMemcpyAsync writes 260 bytes: 0 bytes past the end")));
  float* y = DeviceArray<float>(1);
  EXPECT_EQ(cudaMemcpyAsync(values.data(), y, 4, cudaMemcpyDeviceToHost, a_),
            cudaErrorIllegalAddress);
  EXPECT_THAT(TakeErrors(),
              ElementsAre(HasSubstr("cudaMemcpyAsync reads 4 bytes that nobody wrote")));
  EXPECT_EQ(cudaMemcpyAsync(x_, values.data(), 4, cudaMemcpyDeviceToHost, a_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(y), cudaSuccess);
  EXPECT_EQ(cudaFree(y), cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST(EmulatedMachineTest, DevicesAndTheirMemory) {
  int count = 0;
  ASSERT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  ASSERT_GE(count, 2);
  cudaDeviceProp first, second;
  ASSERT_EQ(cudaGetDeviceProperties(&first, 0), cudaSuccess);
  ASSERT_EQ(cudaGetDeviceProperties(&second, 1), cudaSuccess);
  EXPECT_THAT(memcmp(&first.uuid, &second.uuid, sizeof(first.uuid)), Ne(0));
  EXPECT_EQ(cudaSetDevice(count), cudaErrorInvalidDevice);
  size_t free_bytes = 0, total_bytes = 0;
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(total_bytes, first.totalGlobalMem);
  void* too_much = nullptr;
  EXPECT_EQ(cudaMalloc(&too_much, free_bytes + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(too_much, nullptr);
  cudaGetLastError();
  // Memory of one device is not that of another.
  float* x = OnDevice(std::vector<float>(4, 1.0f));
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  ASSERT_EQ(Launch(WriteAt, 1, 1, 0, nullptr, x, 0), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_THAT(TakeErrors(), ElementsAre(HasSubstr("not memory of device 1")));
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(cudaFree(x), cudaSuccess);
}

TEST(EmulatedMachineDeathTest, TheHostTouchesDeviceMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  float* x = OnDevice(std::vector<float>(4, 1.0f));
  EXPECT_DEATH(x[1] = 2, "the host touched memory of device 0: byte 4 of the 16-byte allocation");
  EXPECT_EQ(cudaFree(x), cudaSuccess);
}

TEST(EmulatedMachineDeathTest, ErrorsThatNobodyTookAreTheExitCode) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        float* x = DeviceArray<float>(4);
        static_cast<void>(Launch(WriteAt, 1, 1, 0, nullptr, x, 4));
        cudaDeviceSynchronize();
        exit(0);
      },
      ::testing::ExitedWithCode(kExitCode), "ends with 1 error");
}

}  // namespace
}  // namespace trireme::emulation
