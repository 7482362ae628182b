// The stand-in for NCCL between ranks that are threads, each with a device: collectives against
// their definition, and ranks that do not agree.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "core/tensor/dtype.h"
#include "tests/cuda_emulation/errors.h"

namespace trireme::emulation {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ncclConfig_t NonBlocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

ncclResult_t Polled(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  for (int i = 0; i < 20000; ++i) {
    EXPECT_EQ(ncclCommGetAsyncError(comm, &state), ncclSuccess);
    if (state != ncclInProgress) return state;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return state;
}

// A rank with a device, a stream and a communicator.
struct Rank {
  int rank;
  int num_ranks;
  cudaStream_t stream = nullptr;
  ncclComm_t comm = nullptr;

  template <typename T>
  T* Device(const std::vector<T>& values) const {
    void* data = nullptr;
    EXPECT_EQ(cudaMalloc(&data, values.size() * sizeof(T)), cudaSuccess);
    EXPECT_EQ(
        cudaMemcpyAsync(data, values.data(), values.size() * sizeof(T), cudaMemcpyDefault, stream),
        cudaSuccess);
    return static_cast<T*>(data);
  }
  template <typename T>
  std::vector<T> Host(const T* data, size_t n) const {
    std::vector<T> values(n);
    EXPECT_EQ(cudaMemcpyAsync(values.data(), data, n * sizeof(T), cudaMemcpyDefault, stream),
              cudaSuccess);
    return values;
  }
  // The first operation connects: it is under way when it has been polled to success.
  void Issue(ncclResult_t result) const {
    ASSERT_THAT(result, ::testing::AnyOf(ncclSuccess, ncclInProgress));
    ASSERT_EQ(Polled(comm), ncclSuccess);
  }
};

void RunRanks(int num_ranks, const std::function<void(Rank&)>& body) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::vector<std::thread> threads;
  for (int i = 0; i < num_ranks; ++i) {
    threads.emplace_back([&, i] {
      Rank rank = {i, num_ranks};
      ASSERT_EQ(cudaSetDevice(i), cudaSuccess);
      ASSERT_EQ(cudaStreamCreateWithFlags(&rank.stream, cudaStreamNonBlocking), cudaSuccess);
      ncclConfig_t config = NonBlocking();
      ASSERT_EQ(ncclCommInitRankConfig(&rank.comm, num_ranks, id, i, &config), ncclInProgress);
      ASSERT_EQ(Polled(rank.comm), ncclSuccess);
      body(rank);
      if (rank.comm != nullptr) {
        EXPECT_EQ(ncclCommFinalize(rank.comm), ncclSuccess);
        EXPECT_EQ(ncclCommDestroy(rank.comm), ncclSuccess);
      }
      cudaStreamDestroy(rank.stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(NcclTest, AllReduce) {
  RunRanks(3, [](Rank& rank) {
    // More than a ring holds.
    const size_t n = 50001;
    std::vector<float> values(n, static_cast<float>(rank.rank + 1));
    float* data = rank.Device(values);
    rank.Issue(ncclAllReduce(data, data, n, ncclFloat32, ncclSum, rank.comm, rank.stream));
    EXPECT_THAT(rank.Host(data, n), Each(6.0f));
    rank.Issue(ncclAllReduce(data, data, n, ncclFloat32, ncclAvg, rank.comm, rank.stream));
    EXPECT_THAT(rank.Host(data, n), Each(6.0f));
    float scale = 0.5f;
    ncclRedOp_t op;
    ASSERT_EQ(
        ncclRedOpCreatePreMulSum(&op, &scale, ncclFloat32, ncclScalarHostImmediate, rank.comm),
        ncclSuccess);
    rank.Issue(ncclAllReduce(data, data, n, ncclFloat32, op, rank.comm, rank.stream));
    EXPECT_THAT(rank.Host(data, n), Each(9.0f));
    EXPECT_EQ(ncclRedOpDestroy(op, rank.comm), ncclSuccess);
  });
  EXPECT_THAT(TakeErrors(), IsEmpty());
}

TEST(NcclTest, GatherScatterBroadcast) {
  RunRanks(3, [](Rank& rank) {
    const auto mine = static_cast<double>(rank.rank);
    double* small = rank.Device(std::vector<double>{mine, mine + 10});
    double* large = rank.Device(std::vector<double>(6, -1));
    rank.Issue(ncclAllGather(small, large, 2, ncclFloat64, rank.comm, rank.stream));
    EXPECT_THAT(rank.Host(large, 6), ElementsAre(0, 10, 1, 11, 2, 12));
    rank.Issue(ncclReduceScatter(large, small, 2, ncclFloat64, ncclSum, rank.comm, rank.stream));
    EXPECT_THAT(rank.Host(small, 2), ElementsAre(3 * mine, 3 * (mine + 10)));
    rank.Issue(ncclBroadcast(small, small, 2, ncclFloat64, 1, rank.comm, rank.stream));
    EXPECT_THAT(rank.Host(small, 2), ElementsAre(3, 33));
  });
  EXPECT_THAT(TakeErrors(), IsEmpty());
}

TEST(NcclTest, GroupedMessagesAroundARing) {
  RunRanks(3, [](Rank& rank) {
    const size_t n = 40000;
    std::vector<int32_t> values(n, rank.rank);
    int32_t* out = rank.Device(values);
    int32_t* in = rank.Device(values);
    const int next = (rank.rank + 1) % 3, previous = (rank.rank + 2) % 3;
    ASSERT_EQ(ncclGroupStart(), ncclSuccess);
    ASSERT_EQ(ncclSend(out, n, ncclInt32, next, rank.comm, rank.stream), ncclSuccess);
    ASSERT_EQ(ncclRecv(in, n, ncclInt32, previous, rank.comm, rank.stream), ncclSuccess);
    rank.Issue(ncclGroupEnd());
    EXPECT_THAT(rank.Host(in, n), Each(previous));
  });
  EXPECT_THAT(TakeErrors(), IsEmpty());
}

TEST(NcclTest, Split) {
  RunRanks(3, [](Rank& rank) {
    ncclComm_t half = nullptr;
    ncclConfig_t config = NonBlocking();
    // Ranks 0 and 2 in reverse, and rank 1 alone.
    ASSERT_THAT(ncclCommSplit(rank.comm, rank.rank % 2, -rank.rank, &half, &config),
                ncclInProgress);
    ASSERT_EQ(Polled(half), ncclSuccess);
    int count = 0, place = -1;
    EXPECT_EQ(ncclCommCount(half, &count), ncclSuccess);
    EXPECT_EQ(ncclCommUserRank(half, &place), ncclSuccess);
    EXPECT_EQ(count, rank.rank == 1 ? 1 : 2);
    EXPECT_EQ(place, rank.rank == 0 ? 1 : 0);
    float* data = rank.Device(std::vector<float>{static_cast<float>(rank.rank)});
    ASSERT_THAT(ncclAllReduce(data, data, 1, ncclFloat32, ncclSum, half, rank.stream),
                ncclInProgress);
    ASSERT_EQ(Polled(half), ncclSuccess);
    EXPECT_THAT(rank.Host(data, 1), ElementsAre(rank.rank == 1 ? 1.0f : 2.0f));
    EXPECT_EQ(ncclCommDestroy(half), ncclSuccess);
  });
  EXPECT_THAT(TakeErrors(), IsEmpty());
}

TEST(NcclTest, OneRankCallsSomethingElse) {
  RunRanks(2, [](Rank& rank) {
    float* data = rank.Device(std::vector<float>(8, 1));
    const size_t count = rank.rank == 0 ? 4 : 3;
    rank.Issue(ncclAllReduce(data, data, count, ncclFloat32, ncclSum, rank.comm, rank.stream));
    EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaErrorLaunchFailure);
    EXPECT_EQ(ncclCommAbort(std::exchange(rank.comm, nullptr)), ncclSuccess);
  });
  const auto errors = TakeErrors();
  ASSERT_FALSE(errors.empty());
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("ncclAllReduce of 4 float32"),
                                 HasSubstr("ncclAllReduce of 3 float32"), HasSubstr("meets"))));
}

TEST(NcclTest, APeerThatDoesNotComeIsWaitedForUntilAbort) {
  RunRanks(2, [](Rank& rank) {
    float* data = rank.Device(std::vector<float>(8, 1));
    if (rank.rank == 1) return;
    rank.Issue(ncclAllReduce(data, data, 8, ncclFloat32, ncclSum, rank.comm, rank.stream));
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    EXPECT_EQ(cudaStreamQuery(rank.stream), cudaErrorNotReady);
    EXPECT_EQ(ncclCommAbort(std::exchange(rank.comm, nullptr)), ncclSuccess);
    EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
  });
  EXPECT_THAT(TakeErrors(), IsEmpty());
}

TEST(NcclTest, UsedBeforeItIsPolled) {
  RunRanks(2, [](Rank& rank) {
    float* data = rank.Device(std::vector<float>(8, 1));
    EXPECT_EQ(ncclAllReduce(data, data, 8, ncclFloat32, ncclSum, rank.comm, rank.stream),
              ncclInProgress);
    EXPECT_EQ(ncclAllReduce(data, data, 8, ncclFloat32, ncclSum, rank.comm, rank.stream),
              ncclInvalidArgument);
    EXPECT_EQ(Polled(rank.comm), ncclSuccess);
  });
  EXPECT_THAT(TakeErrors(), IsEmpty());
}

TEST(NcclTest, TwoRanksOnOneDevice) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  ncclComm_t comms[2];
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  for (int i = 0; i < 2; ++i) {
    ncclConfig_t config = NonBlocking();
    ASSERT_EQ(ncclCommInitRankConfig(&comms[i], 2, id, i, &config), ncclInProgress);
  }
  for (ncclComm_t comm : comms) {
    EXPECT_EQ(Polled(comm), ncclInvalidUsage);
    EXPECT_THAT(ncclGetLastError(comm), HasSubstr("Duplicate GPU"));
    EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
  }
}

TEST(NcclTest, MemoryIsChecked) {
  RunRanks(2, [](Rank& rank) {
    void* data = nullptr;
    ASSERT_EQ(cudaMalloc(&data, 64), cudaSuccess);
    rank.Issue(ncclAllReduce(data, data, 16, ncclFloat32, ncclSum, rank.comm, rank.stream));
    EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaErrorIllegalAddress);
    EXPECT_EQ(ncclCommAbort(std::exchange(rank.comm, nullptr)), ncclSuccess);
  });
  EXPECT_THAT(TakeErrors(), Each(HasSubstr("reads 64 bytes that nobody wrote")));
}

}  // namespace
}  // namespace trireme::emulation
