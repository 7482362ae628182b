// What the emulated device says of kernels: each check is tripped by one launch, and not by its
// right neighbour.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/device/cuda/block_hooks.h"
#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/test_kernels.h"

namespace trireme::emulation {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kCount = 1000;
float host_global = 1;

class KernelChecksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    x_ = OnDevice(std::vector<float>(kCount, 1.0f));
    out_ = DeviceArray<float>(kCount);
  }
  void TearDown() override {
    EXPECT_THAT(TakeErrors(), IsEmpty());
    for (float* block : {x_, out_}) EXPECT_EQ(cudaFree(block), cudaSuccess);
  }
  void ExpectFine(cudaError_t launched) {
    EXPECT_EQ(launched, cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_THAT(TakeErrors(), IsEmpty());
  }
  void ExpectError(cudaError_t launched, cudaError_t code, const std::vector<std::string>& parts) {
    EXPECT_EQ(launched, cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), code);
    const std::vector<std::string> errors = TakeErrors();
    ASSERT_EQ(errors.size(), 1u);
    for (const std::string& part : parts) EXPECT_THAT(errors[0], HasSubstr(part));
  }

  float* x_ = nullptr;    // Ones.
  float* out_ = nullptr;  // Uninitialized.
};

TEST_F(KernelChecksTest, RightKernelsRun) {
  ExpectFine(Launch(Scale, 4, 256, 0, nullptr, x_, 2.0f, kCount));
  ExpectFine(Launch(BlockSum, 1, 128, 16, nullptr, x_, out_, kCount));
  EXPECT_THAT(OnHost(out_, 1), ElementsAre(2000));
  ExpectFine(Launch(TableLookup, 1, 8, 0, nullptr, out_));
  EXPECT_THAT(OnHost(out_, 8), ElementsAre(1, 2, 4, 8, 16, 32, 64, 128));
  View view;
  view.sizes[5] = 77;
  ExpectFine(Launch(LargeParams, 1, 1, 0, nullptr, view, out_));
  EXPECT_THAT(OnHost(out_, 1), ElementsAre(77));
}

TEST_F(KernelChecksTest, OutOfBounds) {
  ExpectFine(Launch(WriteAt, 1, 1, 0, nullptr, x_, kCount - 1));
  ExpectError(Launch(WriteAt, 1, 1, 0, nullptr, x_, kCount), cudaErrorIllegalAddress,
              {"WriteAt, block (0,0,0), thread (0,0,0): writes 4 bytes out of bounds",
               "0 bytes past the end of the 4000-byte allocation", "test_kernels.cu:"});
  ExpectError(Launch(WriteAt, 1, 1, 0, nullptr, x_, -1), cudaErrorIllegalAddress,
              {"out of bounds"});
  ExpectFine(Launch(WriteShared, 1, 1, 10, nullptr, 9));
  ExpectError(Launch(WriteShared, 1, 1, 10, nullptr, 10), cudaErrorIllegalAddress,
              {"outside of the 10 bytes", "byte 10 of shared memory"});
}

TEST_F(KernelChecksTest, MemoryOfTheHost) {
  float on_stack = 0;
  ExpectError(Launch(WriteAt, 1, 1, 0, nullptr, &on_stack, 0), cudaErrorIllegalAddress,
              {"4 bytes of host memory"});
  ExpectError(Launch(ReadAll, 1, 1, 0, nullptr, &host_global, out_, 1), cudaErrorIllegalAddress,
              {"reads 4 bytes of host memory"});
  float* pinned = nullptr;
  ASSERT_EQ(cudaHostAlloc(reinterpret_cast<void**>(&pinned), 8, cudaHostAllocMapped), cudaSuccess);
  ExpectFine(Launch(WriteAt, 1, 1, 0, nullptr, pinned, 1));
  EXPECT_EQ(pinned[1], 1);
  ExpectError(Launch(WriteAt, 1, 1, 0, nullptr, pinned, 2), cudaErrorIllegalAddress,
              {"host memory"});
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(KernelChecksTest, UseAfterFree) {
  float* freed = DeviceArray<float>(100);
  ExpectFine(Launch(WriteAt, 1, 1, 0, nullptr, freed, 1));
  ASSERT_EQ(cudaFree(freed), cudaSuccess);
  ExpectError(Launch(WriteAt, 1, 1, 0, nullptr, freed, 1), cudaErrorIllegalAddress,
              {"freed", "byte 4 of the freed 400-byte allocation"});
}

TEST_F(KernelChecksTest, BlocksOfAPool) {
  float* segment = DeviceArray<float>(30000);
  trireme_device_block_allocated(segment, 400, nullptr);
  ExpectFine(Launch(WriteAt, 1, 1, 0, nullptr, segment, 99));
  ExpectError(Launch(WriteAt, 1, 1, 0, nullptr, segment, 100), cudaErrorIllegalAddress,
              {"0 bytes past the end of the 400-byte pool block"});
  // In stream order: what was queued before the end of a block may use it.
  ASSERT_EQ(Launch(WriteAt, 1, 1, 0, nullptr, segment, 50), cudaSuccess);
  trireme_device_block_freed(segment, 400, nullptr);
  ExpectError(Launch(WriteAt, 1, 1, 0, nullptr, segment, 50), cudaErrorIllegalAddress,
              {"freed", "byte 200 of the freed 400-byte pool block"});
  // What its last holder wrote is not there for the next.
  trireme_device_block_allocated(segment, 80000, nullptr);
  ExpectError(Launch(ReadAll, 1, 1, 0, nullptr, segment + 50, out_, 1), cudaErrorIllegalAddress,
              {"that nobody wrote", "byte 200 of the 80000-byte pool block"});
  EXPECT_EQ(cudaFree(segment), cudaSuccess);
}

TEST_F(KernelChecksTest, Uninitialized) {
  ExpectFine(Launch(ReadAll, 1, 1, 0, nullptr, x_, out_, kCount));
  EXPECT_THAT(OnHost(out_, 1), ElementsAre(1000));
  ExpectError(Launch(ReadAll, 1, 1, 0, nullptr, out_, x_, kCount), cudaErrorIllegalAddress,
              {"reads 4 bytes that nobody wrote", "byte 4 of the 4000-byte allocation"});
  // Shared memory begins anew with each block.
  ExpectError(Launch(ReadSharedFromBefore, 2, 1, 4, nullptr, out_), cudaErrorIllegalAddress,
              {"block (1,0,0)", "reads 4 bytes that nobody wrote: byte 0 of shared memory"});
  float* more = DeviceArray<float>(4);
  ASSERT_EQ(cudaMemcpyAsync(more, out_ + 8, 16, cudaMemcpyDeviceToDevice, nullptr), cudaSuccess);
  ExpectError(Launch(ReadAll, 1, 1, 0, nullptr, more, out_, 1), cudaErrorIllegalAddress,
              {"that nobody wrote"});
  ASSERT_EQ(cudaMemsetAsync(more, 0, 16, nullptr), cudaSuccess);
  ExpectFine(Launch(ReadAll, 1, 1, 0, nullptr, more, out_, 4));
  EXPECT_EQ(cudaFree(more), cudaSuccess);
}

TEST_F(KernelChecksTest, CopiesOfStructs) {
  ExpectFine(Launch(CopyStruct, 1, 1, 0, nullptr, x_, out_));
  EXPECT_THAT(OnHost(out_, 32), Each(1));
  ExpectError(Launch(CopyStruct, 1, 1, 0, nullptr, x_ + kCount - 31, out_), cudaErrorIllegalAddress,
              {"CopyStruct", "past the end"});
}

TEST_F(KernelChecksTest, Misaligned) {
  ExpectFine(Launch(ReadVector, 1, 1, 0, nullptr, x_ + 4, out_));
  EXPECT_THAT(OnHost(out_, 1), ElementsAre(4));
  ExpectError(Launch(ReadVector, 1, 1, 0, nullptr, x_ + 2, out_), cudaErrorMisalignedAddress,
              {"is not aligned to 16 bytes", "byte 8"});
  ExpectError(Launch(AtomicAt, 1, 1, 0, nullptr, reinterpret_cast<char*>(x_) + 2),
              cudaErrorMisalignedAddress, {"is not aligned to 4 bytes"});
}

TEST_F(KernelChecksTest, RacesInAWarp) {
  ExpectFine(Launch(WriteSame, 1, 1, 0, nullptr, out_));
  ExpectError(Launch(WriteSame, 1, 2, 0, nullptr, out_), cudaErrorLaunchFailure,
              {"thread (1,0,0): race: writes byte 0", "written without a barrier between by",
               "thread (0,0,0)"});
  ExpectFine(Launch(ReverseInWarp, 1, 32, 128, nullptr, out_, true));
  EXPECT_THAT(OnHost(out_, 4), ElementsAre(1, 0, 3, 2));
  ExpectError(Launch(ReverseInWarp, 1, 32, 128, nullptr, out_, false), cudaErrorIllegalAddress,
              {"that nobody wrote: byte 4 of shared memory"});
}

TEST_F(KernelChecksTest, RacesInABlock) {
  ExpectFine(Launch(ReverseShared, 2, 96, 384, nullptr, out_, true));
  ExpectError(Launch(ReverseShared, 1, 96, 384, nullptr, out_, false), cudaErrorIllegalAddress,
              {"byte 380 of shared memory"});
  ExpectFine(Launch(ReadBeforeWrite, 1, 96, 0, nullptr, x_, true));
  ExpectError(Launch(ReadBeforeWrite, 1, 96, 0, nullptr, x_, false), cudaErrorLaunchFailure,
              {"thread (1,0,0): race: writes byte 4", "read without a barrier between by",
               "thread (0,0,0)"});
}

TEST_F(KernelChecksTest, RacesBetweenBlocks) {
  ExpectFine(Launch(WritePerBlock, 2, 1, 0, nullptr, x_, true));
  ExpectError(Launch(WritePerBlock, 2, 1, 0, nullptr, x_, false), cudaErrorLaunchFailure,
              {"block (1,0,0), thread (0,0,0): race: reads byte 0", "written",
               "block (0,0,0), thread (0,0,0)"});
  // Launches follow each other.
  ASSERT_EQ(Launch(WriteSame, 1, 1, 0, nullptr, x_), cudaSuccess);
  ExpectFine(Launch(WriteSame, 1, 1, 0, nullptr, x_));
}

TEST_F(KernelChecksTest, NeighboursInAWordDoNotRace) {
  auto* halves = DeviceArray<bfloat16>(kCount);
  ExpectFine(Launch(WriteBf16, 10, 96, 0, nullptr, halves, kCount - 1));
  auto* bytes = DeviceArray<uint8_t>(kCount);
  ExpectFine(Launch(WriteBytes, 10, 96, 0, nullptr, bytes, 333));
  EXPECT_THAT(OnHost(bytes, 333), Each(7));
  ExpectError(Launch(WriteBytes, 1, 1, 0, nullptr, bytes + kCount, 1), cudaErrorIllegalAddress,
              {"writes 1 bytes out of bounds"});
  EXPECT_EQ(cudaFree(bytes), cudaSuccess);
  EXPECT_EQ(cudaFree(halves), cudaSuccess);
}

TEST_F(KernelChecksTest, Atomics) {
  int* counter = OnDevice(std::vector<int>{5});
  ExpectFine(Launch(Count, 3, 70, 0, nullptr, counter));
  EXPECT_THAT(OnHost(counter, 1), ElementsAre(215));
  ExpectFine(Launch(CountAndRead, 1, 1, 0, nullptr, counter, out_));
  ExpectError(Launch(CountAndRead, 1, 2, 0, nullptr, counter, out_), cudaErrorLaunchFailure,
              {"race: atomically updates byte 0", "read without a barrier"});
  ExpectError(Launch(CountAndRead, 2, 1, 0, nullptr, counter, out_), cudaErrorLaunchFailure,
              {"race: atomically updates", "block (0,0,0)"});
  EXPECT_EQ(cudaFree(counter), cudaSuccess);
}

TEST_F(KernelChecksTest, Barriers) {
  ExpectFine(Launch(ExitEarly, 2, 64, 0, nullptr, false));
  ExpectError(Launch(ExitEarly, 2, 64, 0, nullptr, true), cudaErrorLaunchFailure,
              {"divergent barrier", "thread (5,0,0) has exited"});
  ExpectFine(Launch(TwoBarriers, 1, 64, 0, nullptr, false));
  ExpectError(Launch(TwoBarriers, 1, 64, 0, nullptr, true), cudaErrorLaunchFailure,
              {"divergent barrier", "thread (32,0,0) waits at the one at test_kernels.cu:"});
  ExpectFine(Launch(LoopOfBarriers, 2, 96, 0, nullptr, 100));
}

TEST_F(KernelChecksTest, WarpOperations) {
  int* results = DeviceArray<int>(5 * 32);
  ExpectFine(Launch(Shuffles, 1, 32, 0, nullptr, results));
  const std::vector<int> found = OnHost(results, 5 * 32);
  for (int lane = 0; lane < 32; ++lane) {
    const int* mine = &found[static_cast<size_t>(5 * lane)];
    EXPECT_EQ(mine[0], lane / 8 * 8 + 3);
    EXPECT_EQ(mine[1], lane % 16 < 2 ? lane : lane - 2);
    EXPECT_EQ(mine[2], lane + 5 < 32 ? lane + 5 : lane);
    EXPECT_EQ(mine[3], 0b01001001001001001001001001001001);
    EXPECT_EQ(mine[4], 1 + 4 * 16);
  }
  EXPECT_EQ(cudaFree(results), cudaSuccess);
}

TEST_F(KernelChecksTest, WarpMasks) {
  int* results = DeviceArray<int>(32);
  ExpectFine(Launch(ShuffleInHalf, 1, 32, 0, nullptr, results, 0xFFFFu));
  ExpectError(Launch(ShuffleInHalf, 1, 32, 0, nullptr, results, 0xFFFFFFFFu),
              cudaErrorLaunchFailure,
              {"__shfl_xor_sync with mask 0xffffffff", "but lane 16 has exited"});
  ExpectError(Launch(ShuffleInHalf, 1, 32, 0, nullptr, results, 0xFFFEu), cudaErrorLaunchFailure,
              {"which leaves out its own lane 0"});
  ExpectFine(Launch(ShuffleAfterExit, 1, 40, 0, nullptr, false));
  ExpectError(Launch(ShuffleAfterExit, 1, 40, 0, nullptr, true), cudaErrorLaunchFailure,
              {"but lane 3 has exited"});
  ExpectFine(Launch(ShuffleFromOutside, 1, 32, 0, nullptr, results, false));
  ExpectError(Launch(ShuffleFromOutside, 1, 32, 0, nullptr, results, true), cudaErrorLaunchFailure,
              {"from lane 9, which does not take part"});
  EXPECT_EQ(cudaFree(results), cudaSuccess);
}

TEST_F(KernelChecksTest, MatrixMultiply) {
  // a[r][k] = r + k / 16, b[k][n] = (k == n), in the lanes' fragments as language.cuh has them.
  auto bits = [](float value) { return uint32_t{bfloat16(value).bits}; };
  auto a_at = [](int r, int k) { return static_cast<float>(r) + static_cast<float>(k) / 16; };
  auto b_at = [](int k, int n) { return k == n ? 1.0f : 0.0f; };
  std::vector<uint32_t> a, b;
  for (int lane = 0; lane < 32; ++lane) {
    const int row = lane / 4, column = 2 * (lane % 4);
    for (const auto& [r, c] : {std::pair(0, 0), {8, 0}, {0, 8}, {8, 8}}) {
      a.push_back(bits(a_at(row + r, column + c)) | bits(a_at(row + r, column + c + 1)) << 16);
    }
    for (const int c : {0, 8}) {
      b.push_back(bits(b_at(column + c, row)) | bits(b_at(column + c + 1, row)) << 16);
    }
  }
  uint32_t* a_data = OnDevice(a);
  uint32_t* b_data = OnDevice(b);
  ExpectFine(Launch(Multiply, 1, 32, 0, nullptr, a_data, b_data, x_));
  const std::vector<float> d = OnHost(x_, 128);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      EXPECT_EQ(d[static_cast<size_t>(4 * lane + i)], 1 + a_at(row, column));
    }
  }
  ExpectError(Launch(Multiply, 1, 31, 0, nullptr, a_data, b_data, x_), cudaErrorLaunchFailure,
              {"fewer than 32 threads"});
  EXPECT_EQ(cudaFree(a_data), cudaSuccess);
  EXPECT_EQ(cudaFree(b_data), cudaSuccess);
}

TEST_F(KernelChecksTest, LaunchLimits) {
  ExpectFine(Launch(LoopOfBarriers, 1, dim3(32, 4, 8), 0, nullptr, 1));
  EXPECT_EQ(Launch(LoopOfBarriers, 1, 1025, 0, nullptr, 1), cudaErrorInvalidConfiguration);
  EXPECT_EQ(Launch(LoopOfBarriers, 1, dim3(1, 1, 65), 0, nullptr, 1),
            cudaErrorInvalidConfiguration);
  EXPECT_EQ(Launch(LoopOfBarriers, 0, 32, 0, nullptr, 1), cudaErrorInvalidConfiguration);
  EXPECT_EQ(Launch(LoopOfBarriers, dim3(1, 65536), 1, 0, nullptr, 1),
            cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(Launch(TakeHuge, 1, 1, 0, nullptr, Huge()), cudaErrorInvalidValue);
  const void* never = reinterpret_cast<const void*>(&host_global);
  EXPECT_EQ(cudaLaunchKernel(never, 1, 1, nullptr, 0, nullptr), cudaErrorInvalidDeviceFunction);
}

TEST_F(KernelChecksTest, SharedMemoryAboveTheDefaultIsAskedFor) {
  constexpr size_t kMost = 227 << 10;
  ExpectFine(Launch(WriteShared, 1, 1, 48 << 10, nullptr, (48 << 10) - 1));
  EXPECT_EQ(Launch(WriteShared, 1, 1, (48 << 10) + 1, nullptr, 0), cudaErrorInvalidValue);
  const void* kernel = KernelAddress(WriteShared);
  const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
  EXPECT_EQ(cudaFuncSetAttribute(kernel, attribute, kMost + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(kernel, attribute, kMost), cudaSuccess);
  ExpectFine(Launch(WriteShared, 1, 1, kMost, nullptr, kMost - 1));
  EXPECT_EQ(cudaFuncSetAttribute(kernel, attribute, 48 << 10), cudaSuccess);
}

TEST_F(KernelChecksTest, AFailedDeviceRefusesEverything) {
  ASSERT_EQ(Launch(WriteAt, 1, 1, 0, nullptr, x_, kCount), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_EQ(Launch(Scale, 4, 256, 0, nullptr, x_, 2.0f, kCount), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_THAT(TakeErrors(), ElementsAre(HasSubstr("out of bounds")));
  cudaGetLastError();
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

using KernelDeathTest = KernelChecksTest;

TEST_F(KernelDeathTest, FramesOutgrowTheStack) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ExpectFine(Launch(Recurse, 1, 1, 0, nullptr, out_, 10));
  EXPECT_DEATH(static_cast<void>(Launch(Recurse, 1, 1, 0, nullptr, out_, 1000));
               cudaDeviceSynchronize(), "Recurse.*more than the 65536 bytes of its stack");
}

}  // namespace
}  // namespace trireme::emulation
