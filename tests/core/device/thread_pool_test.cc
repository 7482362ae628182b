#include "core/device/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "core/base/status.h"

namespace trireme {
namespace {

using Tiles = std::set<std::pair<int64_t, int64_t>>;

Tiles TilesOf(int num_threads, int64_t n, int64_t grain) {
  ThreadPool pool(num_threads);
  std::mutex mutex;
  Tiles tiles;
  pool.ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
    const std::lock_guard<std::mutex> lock(mutex);
    EXPECT_TRUE(tiles.emplace(begin, end).second) << "tile at " << begin << " ran twice";
  });
  return tiles;
}

TEST(ThreadPoolTest, TilesDependOnTheShapeOnly) {
  EXPECT_EQ(TilesOf(1, 10, 4), (Tiles{{0, 4}, {4, 8}, {8, 10}}));
  for (const int64_t n : {0, 1, 3, 4, 5, 100}) {
    for (const int64_t grain : {1, 4, 7, 1000}) {
      const Tiles tiles = TilesOf(1, n, grain);
      for (int threads : {2, 3, 5})
        EXPECT_EQ(TilesOf(threads, n, grain), tiles) << n << " " << grain;
    }
  }
}

TEST(ThreadPoolTest, ManyShortLoops) {
  ThreadPool pool(4);
  std::vector<int64_t> sums(7);
  for (int64_t loop = 0; loop < 5000; ++loop) {
    pool.ParallelFor(7, 1, [&](int64_t begin, int64_t) { sums[begin] += begin * loop; });
  }
  for (int64_t i = 0; i < 7; ++i) EXPECT_EQ(sums[i], i * 4999 * 5000 / 2);
}

TEST(ThreadPoolTest, WorkersTakePart) {
  ThreadPool pool(3);
  std::atomic<int> arrived = 0;
  // Each tile waits for the others, so this ends only when three threads run.
  pool.ParallelFor(3, 1, [&](int64_t, int64_t) {
    ++arrived;
    while (arrived < 3) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 3);
}

TEST(ThreadPoolTest, WorkersWakeUpAfterAPause) {
  ThreadPool pool(2);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // Longer than any spin.
    std::atomic<int> arrived = 0;
    pool.ParallelFor(2, 1, [&](int64_t, int64_t) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
    });
  }
}

TEST(ThreadPoolTest, NestedLoopsRunInline) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum = 0;
  pool.ParallelFor(6, 1, [&](int64_t outer, int64_t) {
    const std::thread::id self = std::this_thread::get_id();
    pool.ParallelFor(5, 2, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      for (int64_t i = begin; i < end; ++i) sum += outer * i;
    });
  });
  EXPECT_EQ(sum, 15 * 10);
}

TEST(ThreadPoolTest, TwoThreadsMayShareAPool) {
  ThreadPool pool(2);
  std::atomic<int64_t> sum = 0;
  const auto work = [&] {
    for (int i = 0; i < 500; ++i) {
      pool.ParallelFor(10, 3, [&](int64_t begin, int64_t end) { sum += end - begin; });
    }
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_EQ(sum, 2 * 500 * 10);
}

TEST(ThreadPoolTest, TheFirstFailureReachesTheCaller) {
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    for (int repeat = 0; repeat < 50; ++repeat) {
      const Status status = CatchFailure([&] {
        pool.ParallelFor(64, 1, [&](int64_t begin, int64_t) {
          if (begin % 10 == 7) throw Failure(absl::DataLossError(std::to_string(begin)));
        });
      });
      EXPECT_EQ(status, absl::DataLossError("7"));
    }
    int64_t tiles = 0;
    pool.ParallelFor(1, 1, [&](int64_t, int64_t) { ++tiles; });
    EXPECT_EQ(tiles, 1) << "the pool must work after a failure";
  }
}

}  // namespace
}  // namespace trireme
