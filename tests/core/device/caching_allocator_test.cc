#include "core/device/caching_allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "core/base/rng.h"
#include "core/device/cpu/host_memory.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

Block Take(CachingAllocator& allocator, size_t bytes, MemoryKind kind = MemoryKind::kActivations,
           const char* label = "x") {
  return ValueOrThrow(allocator.Allocate(bytes, kind, label));
}

TEST(CachingAllocatorTest, BlocksAreAlignedAndOfTheirOwn) {
  CachingAllocator allocator(std::make_unique<HostMemory>(), 0);
  std::vector<Block> blocks;
  for (size_t bytes : {0, 1, 63, 64, 65, 1000, 0, 5000000}) {
    const Block block = Take(allocator, bytes);
    ASSERT_NE(block.data, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block.data) % 64, 0u);
    EXPECT_EQ(block.bytes, bytes);
    for (const Block& other : blocks) EXPECT_NE(other.data, block.data);
    std::memset(block.data, 1, bytes);
    blocks.push_back(block);
  }
  for (const Block& block : blocks) allocator.Free(block);
  EXPECT_EQ(allocator.stats().current_total_bytes, 0);
}

TEST(CachingAllocatorTest, PeaksByCategoryAndOfTheSum) {
  CachingAllocator allocator(std::make_unique<HostMemory>(), 0);
  const Block a = Take(allocator, 100, MemoryKind::kParameters);
  const Block b = Take(allocator, 50, MemoryKind::kActivations);
  allocator.Free(b);
  const Block c = Take(allocator, 20, MemoryKind::kWorkspace);
  MemoryStats stats = allocator.stats();
  const auto current = [&](MemoryKind kind) { return stats.current_bytes[static_cast<int>(kind)]; };
  const auto peak = [&](MemoryKind kind) { return stats.peak_bytes[static_cast<int>(kind)]; };
  EXPECT_EQ(current(MemoryKind::kParameters), 100);
  EXPECT_EQ(current(MemoryKind::kActivations), 0);
  EXPECT_EQ(peak(MemoryKind::kActivations), 50);
  EXPECT_EQ(stats.current_total_bytes, 120);
  EXPECT_EQ(stats.peak_total_bytes, 150);
  allocator.ResetPeaks();
  stats = allocator.stats();
  EXPECT_EQ(peak(MemoryKind::kActivations), 0);
  EXPECT_EQ(stats.peak_total_bytes, 120);
  allocator.Free(a);
  allocator.Free(c);
}

TEST(CachingAllocatorTest, ARepeatedStepAsksTheSystemForNothing) {
  CachingAllocator allocator(std::make_unique<HostMemory>(), 0);
  const auto step = [&] {
    std::vector<Block> blocks;
    for (int i = 0; i < 200; ++i) {
      blocks.push_back(Take(allocator, (i * 7919) % 300000));
      if (i % 3 == 2) {
        allocator.Free(blocks[i / 2]);
        blocks[i / 2] = Take(allocator, 64);
      }
    }
    for (const Block& block : blocks) allocator.Free(block);
  };
  step();
  const MemoryStats before = allocator.stats();
  for (int i = 0; i < 5; ++i) step();
  EXPECT_EQ(allocator.stats().system_allocations, before.system_allocations);
  EXPECT_EQ(allocator.stats().reserved_bytes, before.reserved_bytes);
}

TEST(CachingAllocatorTest, NeighboursCoalesce) {
  CachingAllocator allocator(std::make_unique<HostMemory>(), 2 * kMiB);
  std::vector<Block> blocks;
  for (int i = 0; i < 8; ++i) blocks.push_back(Take(allocator, kMiB / 4));
  EXPECT_FALSE(allocator.Allocate(64, MemoryKind::kActivations, "x").ok());
  for (int i : {1, 3, 2, 7, 5, 6, 0, 4}) allocator.Free(blocks[i]);
  allocator.Free(Take(allocator, 2 * kMiB));
  EXPECT_EQ(allocator.stats().system_allocations, 1);
}

TEST(CachingAllocatorTest, BestFitTakesTheSmallestHole) {
  CachingAllocator allocator(std::make_unique<HostMemory>(), 2 * kMiB);
  const Block large = Take(allocator, kMiB), wall = Take(allocator, 64);
  const Block small = Take(allocator, 4096), wall2 = Take(allocator, 64);
  allocator.Free(large);
  allocator.Free(small);
  const Block again = Take(allocator, 4000);
  EXPECT_EQ(again.data, small.data);
  for (const Block& block : {wall, wall2, again}) allocator.Free(block);
}

TEST(CachingAllocatorTest, CachedSegmentsAreReturnedBeforeGivingUp) {
  CachingAllocator allocator(std::make_unique<HostMemory>(), 8 * kMiB);
  allocator.Free(Take(allocator, 2 * kMiB));
  allocator.Free(Take(allocator, 4 * kMiB));
  const Block block = Take(allocator, 8 * kMiB);
  EXPECT_EQ(allocator.stats().reserved_bytes, 8 * kMiB);
  allocator.Free(block);
}

TEST(CachingAllocatorTest, TheReportNamesRequestHoldersAndCure) {
  CachingAllocator allocator(std::make_unique<HostMemory>(), 64 * kMiB);
  std::vector<Block> blocks;
  for (int i = 0; i < 3; ++i) {
    blocks.push_back(Take(allocator, 8 * kMiB, MemoryKind::kActivations, "layers.1.mlp"));
  }
  blocks.push_back(Take(allocator, 20 * kMiB, MemoryKind::kParameters, "embedding.weight"));
  for (int i = 0; i < 12; ++i) {
    blocks.push_back(
        Take(allocator, 1000 + i, MemoryKind::kOptimizer, i < 10 ? "state" : "the least"));
  }
  const Status status = allocator.Allocate(30 * kMiB, MemoryKind::kWorkspace, "gemm").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  const std::string text(status.message());
  EXPECT_THAT(text, HasSubstr("cannot allocate 30.0 MiB of workspace for 'gemm'"));
  EXPECT_THAT(text, HasSubstr("the limit is 64.0 MiB"));
  EXPECT_THAT(text, HasSubstr("24.0 MiB in 3 blocks: layers.1.mlp"));
  EXPECT_THAT(text, HasSubstr("20.0 MiB in 1 blocks: embedding.weight"));
  EXPECT_THAT(text, HasSubstr("largest free block"));
  EXPECT_THAT(text, HasSubstr("activation recomputation"));
  EXPECT_LT(text.find("layers.1.mlp"), text.find("embedding.weight"));
  for (const Block& block : blocks) allocator.Free(block);
  allocator.Free(Take(allocator, 30 * kMiB));
}

TEST(CachingAllocatorTest, AbsurdSizesAreRefused) {
  CachingAllocator allocator(std::make_unique<HostMemory>(), 0);
  const Status status =
      allocator.Allocate(static_cast<size_t>(-64), MemoryKind::kActivations, "x").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

// Against a model: blocks never overlap, hold their contents, and the statistics add up.
TEST(CachingAllocatorTest, RandomStress) {
  CachingAllocator allocator(std::make_unique<HostMemory>(), 0);
  const RngKey key = MakeRngKey(5, "stress");
  struct Held {
    Block block;
    unsigned char fill;
  };
  std::map<char*, Held> model;
  int64_t total = 0, peak = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    const RngBlock draw = Philox(key, i);
    const bool grow = (i / 1000) % 2 == 0;
    if (model.empty() || draw[0] % 10 < (grow ? 7 : 3)) {
      const size_t bytes = draw[1] % (draw[2] % 50 == 0 ? 3000000 : 5000);
      const Block block = Take(allocator, bytes, static_cast<MemoryKind>(draw[2] % 6));
      char* data = static_cast<char*>(block.data);
      const auto after = model.lower_bound(data);
      if (after != model.end()) {
        ASSERT_LE(data + std::max<size_t>(bytes, 1), after->first);
      }
      if (after != model.begin()) {
        const Held& before = std::prev(after)->second;
        ASSERT_LE(static_cast<char*>(before.block.data) + before.block.bytes, data);
      }
      if (bytes > 0) data[0] = data[bytes - 1] = static_cast<char>(i);
      model[data] = {block, static_cast<unsigned char>(i)};
      total += bytes;
    } else {
      auto it = model.lower_bound(model.begin()->first + draw[1] % (8 * kMiB));
      if (it == model.end()) it = model.begin();
      const Held& held = it->second;
      const auto* data = static_cast<unsigned char*>(held.block.data);
      if (held.block.bytes > 0) {
        ASSERT_EQ(data[0], held.fill);
        ASSERT_EQ(data[held.block.bytes - 1], held.fill);
      }
      total -= held.block.bytes;
      allocator.Free(held.block);
      model.erase(it);
    }
    peak = std::max(peak, total);
    if (i % 512 == 0) {
      const MemoryStats stats = allocator.stats();
      ASSERT_EQ(stats.current_total_bytes, total);
      ASSERT_EQ(stats.peak_total_bytes, peak);
      int64_t sum = 0;
      for (int64_t bytes : stats.current_bytes) sum += bytes;
      ASSERT_EQ(sum, total);
      ASSERT_GE(stats.reserved_bytes, total);
    }
  }
  for (const auto& [data, held] : model) allocator.Free(held.block);
  // All free again: whole segments are left, so the largest request that ever fitted fits.
  EXPECT_EQ(allocator.stats().current_total_bytes, 0);
}

TEST(CachingAllocatorTest, ThreadsShareIt) {
  CachingAllocator allocator(std::make_unique<HostMemory>(), 0);
  const auto work = [&](int thread) {
    std::vector<Block> blocks;
    for (int i = 0; i < 2000; ++i) {
      const Block block = Take(allocator, 1 + (i * 131 + thread) % 10000);
      std::memset(block.data, thread, block.bytes);
      blocks.push_back(block);
      if (i % 2 == 1) {
        const Block& old = blocks[i / 2];
        EXPECT_EQ(static_cast<char*>(old.data)[old.bytes - 1], thread);
        allocator.Free(old);
      }
    }
    for (size_t i = blocks.size() / 2; i < blocks.size(); ++i) allocator.Free(blocks[i]);
  };
  std::thread other(work, 1);
  work(2);
  other.join();
  EXPECT_EQ(allocator.stats().current_total_bytes, 0);
}

TEST(CachingAllocatorTest, BlocksThatOutliveTheirDeviceAreNamed) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the leak checker would find the block";
#endif
  ::testing::internal::CaptureStderr();
  {
    CachingAllocator allocator(std::make_unique<HostMemory>(), 0);
    Take(allocator, 10, MemoryKind::kParameters, "head.weight");
  }
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              ::testing::HasSubstr("1 blocks outlive their device, one of 'head.weight'"));
}

TEST(CachingAllocatorDeathTest, WrongUse) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        CachingAllocator allocator(std::make_unique<HostMemory>(), 0);
        const Block block = Take(allocator, 10);
        allocator.Free(block);
        allocator.Free(block);
      },
      "freed twice");
#if defined(__SANITIZE_ADDRESS__)
  EXPECT_DEATH(
      {
        CachingAllocator allocator(std::make_unique<HostMemory>(), 0);
        const Block block = Take(allocator, 100);
        static_cast<volatile char*>(block.data)[100] = 1;
      },
      "use-after-poison");
#endif
}

}  // namespace
}  // namespace trireme
