#include "data/prefetch.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace trireme {
namespace {

HostBatch BatchWithToken(int64_t token) {
  HostBatch batch;
  batch.tokens = {static_cast<int32_t>(token)};
  return batch;
}

TEST(PrefetcherTest, GivesBatchesInOrderThenOutOfRange) {
  for (const int capacity : {1, 3, 100}) {
    Prefetcher prefetcher([](int64_t i) { return BatchWithToken(i); }, 5, 25, capacity);
    for (int64_t i = 5; i < 25; ++i) {
      const StatusOr<HostBatch> batch = prefetcher.Next();
      ASSERT_TRUE(batch.ok()) << batch.status();
      EXPECT_EQ(batch->tokens[0], i);
    }
    EXPECT_EQ(prefetcher.Next().status().code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(prefetcher.Next().status().code(), absl::StatusCode::kOutOfRange);
  }
}

TEST(PrefetcherTest, EmptyRange) {
  Prefetcher prefetcher([](int64_t i) { return BatchWithToken(i); }, 3, 3, 2);
  EXPECT_EQ(prefetcher.Next().status().code(), absl::StatusCode::kOutOfRange);
}

TEST(PrefetcherTest, ErrorsComeInTheirPlaceAndStay) {
  Prefetcher prefetcher(
      [](int64_t i) -> StatusOr<HostBatch> {
        if (i == 2) return absl::DataLossError("shard 2 is damaged");
        return BatchWithToken(i);
      },
      0, 10, 4);
  EXPECT_EQ(prefetcher.Next()->tokens[0], 0);
  EXPECT_EQ(prefetcher.Next()->tokens[0], 1);
  EXPECT_EQ(prefetcher.Next().status().message(), "shard 2 is damaged");
  EXPECT_EQ(prefetcher.Next().status().message(), "shard 2 is damaged");
}

TEST(PrefetcherTest, NothingIsMadeAfterAnError) {
  std::atomic<int64_t> last{-1};
  {
    Prefetcher prefetcher(
        [&](int64_t i) -> StatusOr<HostBatch> {
          last = i;
          if (i >= 2) return absl::DataLossError("shard 2 is damaged");
          return BatchWithToken(i);
        },
        0, 10, 100);
    while (prefetcher.Next().ok()) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(last.load(), 2);
}

TEST(PrefetcherTest, AFailureBecomesAStatus) {
  Prefetcher prefetcher(
      [](int64_t) -> StatusOr<HostBatch> { throw Failure(absl::ResourceExhaustedError("full")); },
      0, 10, 1);
  EXPECT_EQ(prefetcher.Next().status(), absl::ResourceExhaustedError("full"));
}

TEST(PrefetcherTest, StaysWithinItsCapacity) {
  std::atomic<int64_t> made{0};
  Prefetcher prefetcher(
      [&](int64_t i) {
        ++made;
        return BatchWithToken(i);
      },
      0, 1000, 3);
  for (int64_t taken = 1; taken <= 50; ++taken) {
    ASSERT_TRUE(prefetcher.Next().ok());
    EXPECT_LE(made.load(), taken + 3 + 1);  // One more is in the making.
  }
}

TEST(PrefetcherTest, TheDestructorDropsWhatIsLeft) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    Prefetcher full([](int64_t i) { return BatchWithToken(i); }, 0, int64_t{1} << 60, 2);
    if (i % 2 == 0) {
      EXPECT_TRUE(full.Next().ok());
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace trireme
