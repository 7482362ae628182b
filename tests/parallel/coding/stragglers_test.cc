#include "parallel/coding/stragglers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "parallel/coding/delay_model.h"

namespace trireme {
namespace {

TEST(StragglersTest, ByHand) {
  // Worker 1 is late in rounds 1 and 2, worker 0 in round 3.
  const std::vector<double> times = {1, 1, 1, 3, 1, 4, 5, 2};
  const StatusOr<StragglerEstimate> estimate = EstimateStragglers(times, 2, 1, 1);
  ASSERT_TRUE(estimate.ok()) << estimate.status();
  EXPECT_DOUBLE_EQ(estimate->late, 3.0 / 8);
  EXPECT_DOUBLE_EQ(estimate->burst, 1.5);
  EXPECT_EQ(estimate->late_by_worker, (std::vector<double>{0.25, 0.5}));
  EXPECT_DOUBLE_EQ(estimate->enter, 2.5 / 5);  // Two of four fast ones.
  EXPECT_DOUBLE_EQ(estimate->leave, 1.5 / 3);  // One of two late ones.
}

TEST(StragglersTest, FindsTheChainThatDrewTheTimes) {
  const auto profile =
      DrawDelays("gilbert_elliott", 32, 1000, 5, {{"enter", "0.06"}, {"leave", "0.4"}});
  const auto estimate = EstimateStragglers(profile->per_load, 32, 1, 4);
  ASSERT_TRUE(estimate.ok());
  EXPECT_NEAR(estimate->enter, 0.06, 0.006);
  EXPECT_NEAR(estimate->leave, 0.4, 0.02);
  EXPECT_NEAR(estimate->late, 0.06 / 0.46, 0.01);
  EXPECT_NEAR(estimate->burst, 2.5, 0.1);
}

TEST(StragglersTest, OneFreakIsNoMeasure) {
  const std::vector<double> times = {0.1, 1, 1, 1};
  EXPECT_DOUBLE_EQ(EstimateStragglers(times, 4, 1, 1)->late, 0.75);
  EXPECT_DOUBLE_EQ(EstimateStragglers(times, 4, 1, 2)->late, 0);
  EXPECT_EQ(EstimateStragglers(times, 4, 1, 2)->burst, 0);
  EXPECT_EQ(EstimateStragglers(times, 3, 1, 2).status().message(),
            "4 times of 3 workers are no whole number of rounds");
  EXPECT_FALSE(EstimateStragglers({}, 3, 1, 2).ok());
}

TEST(QuantilesTest, BetweenTwoTimesLinearly) {
  const std::vector<double> times = {4, 1, 3, 2, 5};
  EXPECT_EQ(Quantiles(times, {0, 0.5, 0.625, 1}), (std::vector<double>{1, 3, 3.5, 5}));
  EXPECT_EQ(Quantiles({2.0}, {0, 1}), (std::vector<double>{2, 2}));
  EXPECT_TRUE(std::isnan(Quantiles({}, {0.5})[0]));
}

}  // namespace
}  // namespace trireme
