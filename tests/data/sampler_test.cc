#include "data/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace trireme {
namespace {

std::vector<int64_t> Order(int64_t n, RngKey key) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < n; ++i) order.push_back(PermutedIndex(i, n, key));
  return order;
}

TEST(PermutedIndexTest, IsABijectionForEverySmallSize) {
  for (int64_t n = 1; n <= 300; ++n) {
    for (uint64_t seed = 0; seed < 3; ++seed) {
      std::vector<int64_t> order = Order(n, MakeRngKey(seed, "test"));
      std::sort(order.begin(), order.end());
      std::vector<int64_t> all(n);
      std::iota(all.begin(), all.end(), 0);
      ASSERT_EQ(order, all) << "n = " << n << ", seed = " << seed;
    }
  }
}

TEST(PermutedIndexTest, StaysInRangeForLargeSizes) {
  for (const int64_t n : {(int64_t{1} << 32) + 1, (int64_t{1} << 62) + 12345}) {
    std::set<int64_t> images;
    for (int64_t i = n - 100; i < n; ++i) {
      const int64_t image = PermutedIndex(i, n, MakeRngKey(1, "test"));
      EXPECT_GE(image, 0);
      EXPECT_LT(image, n);
      images.insert(image);
    }
    EXPECT_EQ(images.size(), 100u);
  }
}

TEST(PermutedIndexTest, AllOrdersOfThreeComeAboutEquallyOften) {
  std::map<std::vector<int64_t>, int> counts;
  const int draws = 6000;
  for (int seed = 0; seed < draws; ++seed) ++counts[Order(3, MakeRngKey(seed, "test"))];
  EXPECT_EQ(counts.size(), 6u);
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, draws / 6, 150);
}

TEST(PermutedIndexTest, NeighboursAreTornApart) {
  const std::vector<int64_t> order = Order(10000, MakeRngKey(3, "test"));
  int fixed = 0, neighbours = 0;
  for (int64_t i = 0; i + 1 < 10000; ++i) {
    fixed += order[i] == i;
    neighbours += std::abs(order[i] - order[i + 1]) == 1;
  }
  EXPECT_LT(fixed, 8);        // 1 is expected.
  EXPECT_LT(neighbours, 12);  // 2 are expected.
}

TEST(SamplerTest, EveryEpochVisitsEverySampleOnceInAnotherOrder) {
  const Sampler sampler(10, /*seed=*/7);
  std::set<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    std::vector<int64_t> order;
    for (const SampleRef& ref : sampler.Range(epoch * 10, 10)) {
      EXPECT_EQ(sampler.Epoch(ref.sample), epoch);
      order.push_back(ref.index);
    }
    orders.insert(order);
    EXPECT_THAT(order, ::testing::UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  }
  EXPECT_EQ(orders.size(), 5u);
}

// A resumed run, and any split of a batch over ranks, asks for the same samples by number.
TEST(SamplerTest, RandomAccessEqualsTheSequence) {
  const Sampler sampler(7, /*seed=*/1);
  const std::vector<SampleRef> whole = sampler.Range(0, 40);  // Batches of 5 cross the epochs of 7.
  for (int64_t step = 7; step >= 0; --step) {
    const std::vector<SampleRef> batch = Sampler(7, 1).Range(step * 5, 5);
    for (int64_t i = 0; i < 5; ++i) {
      EXPECT_EQ(batch[i].sample, step * 5 + i);
      EXPECT_EQ(batch[i].index, whole[step * 5 + i].index);
    }
  }
}

TEST(SamplerTest, SeedsGiveOtherOrders) {
  std::vector<int64_t> a, b;
  for (int64_t i = 0; i < 20; ++i) {
    a.push_back(Sampler(20, 1).At(i).index);
    b.push_back(Sampler(20, 2).At(i).index);
  }
  EXPECT_NE(a, b);
}

TEST(SamplerTest, WithoutShufflingItCounts) {
  const Sampler sampler(3, 1, /*shuffle=*/false);
  for (int64_t i = 0; i < 9; ++i) EXPECT_EQ(sampler.At(i).index, i % 3);
}

// The order is part of what a checkpoint means: it may never change.
TEST(SamplerTest, OrderIsPinned) {
  std::vector<int64_t> order;
  for (const SampleRef& ref : Sampler(8, 42).Range(0, 16)) order.push_back(ref.index);
  EXPECT_THAT(order, ::testing::ElementsAre(3, 1, 6, 4, 5, 2, 0, 7, 3, 5, 7, 1, 6, 2, 4, 0));
}

}  // namespace
}  // namespace trireme
