#include "core/tensor/box.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

using ::testing::HasSubstr;

std::string Message(const Status& status) { return std::string(status.message()); }

TEST(BoxTest, CheckedNumel) {
  EXPECT_EQ(*CheckedNumel({}), 1);
  EXPECT_EQ(*CheckedNumel({2, 3, 0}), 0);
  EXPECT_EQ(*CheckedNumel({int64_t{1} << 31, (int64_t{1} << 31)}), int64_t{1} << 62);
  EXPECT_FALSE(CheckedNumel({int64_t{1} << 32, int64_t{1} << 31}).ok());
  EXPECT_FALSE(CheckedNumel({0, int64_t{1} << 32, int64_t{1} << 32}).ok());
  EXPECT_FALSE(CheckedNumel({-1}).ok());
}

TEST(BoxTest, Inside) {
  EXPECT_TRUE(CheckInside({{1, 0}, {2, 4}}, {3, 4}).ok());
  EXPECT_TRUE(CheckInside({{3, 0}, {0, 4}}, {3, 4}).ok());
  EXPECT_TRUE(CheckInside({{}, {}}, {}).ok());
  EXPECT_FALSE(CheckInside({{1, 0}, {3, 4}}, {3, 4}).ok());
  EXPECT_FALSE(CheckInside({{1}, {2}}, {3, 4}).ok());
  EXPECT_FALSE(CheckInside({{1, 0}, {2}}, {3, 4}).ok());
  EXPECT_FALSE(CheckInside({{INT64_MAX}, {INT64_MAX}}, {3}).ok());
}

TEST(BoxTest, Intersect) {
  EXPECT_EQ(Intersect({{0, 0}, {2, 3}}, {{1, 2}, {5, 5}}), (Box{{1, 2}, {1, 1}}));
  EXPECT_EQ(Intersect({{0}, {2}}, {{2}, {2}}).numel(), 0);
  EXPECT_EQ(Intersect({{0}, {2}}, {{5}, {2}}).numel(), 0);
  EXPECT_EQ(Intersect({{}, {}}, {{}, {}}).numel(), 1);
  EXPECT_EQ((Box{{1, 2}, {1, 3}}).ToString(), "[1:2, 2:5]");
}

TEST(BoxTest, TilesAccepted) {
  EXPECT_TRUE(CheckTiles({}, {Box{}}).ok());
  EXPECT_TRUE(CheckTiles({0, 3}, {}).ok());
  EXPECT_TRUE(CheckTiles({5}, {Box{{3}, {2}}, Box{{0}, {3}}}).ok());
  // A pinwheel: no cut goes straight through.
  EXPECT_TRUE(CheckTiles({3, 3}, {Box{{0, 0}, {1, 2}}, Box{{0, 2}, {2, 1}}, Box{{1, 0}, {2, 1}},
                                  Box{{2, 1}, {1, 2}}, Box{{1, 1}, {1, 1}}})
                  .ok());
}

TEST(BoxTest, TilesRefused) {
  EXPECT_THAT(Message(CheckTiles({5}, {Box{{0}, {3}}, Box{{2}, {3}}})), HasSubstr("overlap"));
  EXPECT_THAT(Message(CheckTiles({5}, {Box{{0}, {3}}, Box{{4}, {1}}})), HasSubstr("cover 4 of 5"));
  EXPECT_THAT(Message(CheckTiles({5}, {Box{{0}, {5}}, Box{{4}, {0}}})), HasSubstr("empty"));
  EXPECT_THAT(Message(CheckTiles({5}, {Box{{0}, {6}}})), HasSubstr("no box"));
  EXPECT_THAT(Message(CheckTiles({}, {Box{}, Box{}})), HasSubstr("overlap"));
  EXPECT_THAT(Message(CheckTiles({}, {})), HasSubstr("cover 0 of 1"));
  // The volume fits, yet two overlap and there is a hole.
  EXPECT_THAT(Message(CheckTiles({2, 2}, {Box{{0, 0}, {2, 1}}, Box{{1, 0}, {1, 2}}})),
              HasSubstr("overlap"));
}

// Every box of a 3x2x3 tensor into a corner of a 3x3x4 one, against the definition.
TEST(BoxRunsTest, EveryBoxAgainstTheDefinition) {
  const Shape source{3, 2, 3}, dest{3, 3, 4};
  const auto ranges = [](int64_t n) {
    std::vector<std::pair<int64_t, int64_t>> result;
    for (int64_t b = 0; b <= n; ++b) {
      for (int64_t size = 0; b + size <= n; ++size) result.push_back({b, size});
    }
    return result;
  };
  for (const auto& [b0, s0] : ranges(3)) {
    for (const auto& [b1, s1] : ranges(2)) {
      for (const auto& [b2, s2] : ranges(3)) {
        const Shape begin{b0, b1, b2}, size{s0, s1, s2};
        const Shape at{3 - s0, 1, 4 - s2};
        const BoxRuns runs(source, begin, dest, at, size);
        ASSERT_EQ(runs.count() * runs.length(), size.numel());
        std::vector<std::pair<int64_t, int64_t>> got, expected;
        for (int64_t k = 0; k < runs.count(); ++k) {
          for (int64_t i = 0; i < runs.length(); ++i) {
            got.push_back({runs[k].source + i, runs[k].dest + i});
          }
        }
        for (int64_t i = 0; i < s0; ++i) {
          for (int64_t j = 0; j < s1; ++j) {
            for (int64_t k = 0; k < s2; ++k) {
              expected.push_back({((b0 + i) * 2 + b1 + j) * 3 + b2 + k,
                                  ((at[0] + i) * 3 + at[1] + j) * 4 + at[2] + k});
            }
          }
        }
        ASSERT_EQ(got, expected) << begin << size;
      }
    }
  }
}

TEST(BoxRunsTest, WholeTensorIsOneRun) {
  const Shape shape{4, 5, 6};
  const BoxRuns runs(shape, {0, 0, 0}, shape, {0, 0, 0}, shape);
  EXPECT_EQ(runs.count(), 1);
  EXPECT_EQ(runs.length(), 120);
}

}  // namespace
}  // namespace trireme
