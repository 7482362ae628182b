#include "core/base/rng.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

// The known answers that accompany the paper's reference implementation.
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox({0, 0}, 0), (RngBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({0xffffffff, 0xffffffff}, ~uint64_t{0}, ~uint64_t{0}),
            (RngBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0xa4093822, 0x299f31d0}, 0x85a308d3243f6a88, 0x0370734413198a2e),
            (RngBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RngTest, NormalHasUnitVariance) {
  const RngKey key = MakeRngKey(1, "weights");
  double sum = 0, sum_of_squares = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double x = NormalAt(key, i);
    sum += x;
    sum_of_squares += x * x;
  }
  EXPECT_NEAR(sum / n, 0, 0.02);
  EXPECT_NEAR(sum_of_squares / n, 1, 0.02);
}

TEST(RngTest, NamesSeedsAndStepsGiveOtherStreams) {
  const double base = UniformAt(MakeRngKey(1, "a", 0), 0);
  EXPECT_NE(base, UniformAt(MakeRngKey(2, "a", 0), 0));
  EXPECT_NE(base, UniformAt(MakeRngKey(1, "b", 0), 0));
  EXPECT_NE(base, UniformAt(MakeRngKey(1, "a", 1), 0));
}

}  // namespace
}  // namespace trireme
