#include "parallel/coding/delay_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace trireme {
namespace {

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / values.size();
}

TEST(DelayModelTest, EveryModelIsAFunctionOfSeedRoundAndWorker) {
  for (const Entry<DelayModel>& entry : DelayModels()) {
    const StatusOr<DelayProfile> longer = DrawDelays(entry.name, 5, 40, 7);
    const StatusOr<DelayProfile> shorter = DrawDelays(entry.name, 5, 11, 7);
    const StatusOr<DelayProfile> other = DrawDelays(entry.name, 5, 11, 8);
    ASSERT_TRUE(longer.ok() && shorter.ok() && other.ok()) << entry.name;
    EXPECT_TRUE(std::equal(shorter->fixed.begin(), shorter->fixed.end(), longer->fixed.begin()));
    EXPECT_TRUE(
        std::equal(shorter->per_load.begin(), shorter->per_load.end(), longer->per_load.begin()));
    EXPECT_TRUE(other->fixed != shorter->fixed || other->per_load != shorter->per_load)
        << entry.name;
    for (const double time : longer->fixed) EXPECT_GE(time, 0);
    for (const double time : longer->per_load) EXPECT_GE(time, 0);
  }
}

TEST(DelayModelTest, TheExponentialTailHasItsMean) {
  const auto additive =
      DrawDelays("shifted_exponential", 50, 400, 1, {{"fixed", "2"}, {"tail", "0.5"}});
  EXPECT_NEAR(Mean(additive->fixed), 2.5, 0.02);
  EXPECT_GE(*std::min_element(additive->fixed.begin(), additive->fixed.end()), 2);
  EXPECT_EQ(Mean(additive->per_load), 1);
  const auto proportional =
      DrawDelays("shifted_exponential", 50, 400, 1, {{"tail", "0.5"}, {"proportional", "true"}});
  EXPECT_NEAR(Mean(proportional->per_load), 1.5, 0.02);
  EXPECT_EQ(Mean(proportional->fixed), 0);
}

TEST(DelayModelTest, TheChainStaysAsLongAsItSays) {
  const auto profile = DrawDelays("gilbert_elliott", 40, 2000, 2,
                                  {{"enter", "0.05"}, {"leave", "0.25"}, {"jitter", "0"}});
  int64_t slow = 0, entered = 0, left = 0;
  for (int64_t i = 0; i < 2000 * 40; ++i) {
    const bool now = profile->per_load[i] > 5;
    slow += now;
    if (i < 40) continue;
    const bool before = profile->per_load[i - 40] > 5;
    entered += now && !before;
    left += before && !now;
  }
  EXPECT_NEAR(slow / 80000.0, 0.05 / 0.3, 0.01);
  EXPECT_NEAR(double(left) / slow, 0.25, 0.015);
  EXPECT_NEAR(double(entered) / (80000 - slow), 0.05, 0.005);
}

TEST(DelayModelTest, CloudFunctionsAreLateAsOftenAsMeasured) {
  const auto profile = DrawDelays("serverless", 256, 100, 1);
  int64_t late = 0;
  for (int round = 0; round < 100; ++round) {
    const auto begin = profile->fixed.begin() + round * 256;
    const double fastest = *std::min_element(begin, begin + 256);
    late += std::count_if(begin, begin + 256, [&](double t) { return t > 2 * fastest; });
  }
  EXPECT_NEAR(late / 25600.0, 0.047, 0.006);
}

TEST(TraceTest, RoundsOfNumbers) {
  const StatusOr<DelayProfile> trace = ParseTrace("# two workers\n1.5, 2\n\n 3\t4.25 \r\n", 0.5, 2);
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->num_workers, 2);
  EXPECT_EQ(trace->num_rounds, 2);
  EXPECT_EQ(trace->fixed, (std::vector<double>{0.5, 1, 2, 3.25}));
  EXPECT_EQ(trace->per_load, (std::vector<double>{2, 2, 2, 2}));
}

TEST(TraceTest, WhatIsWrongHasItsLine) {
  const auto message = [](absl::string_view text, double load = 0) {
    return std::string(ParseTrace(text, load, 1).status().message());
  };
  EXPECT_EQ(message(""), "trace: no round in it");
  EXPECT_EQ(message("# nothing\n"), "trace: no round in it");
  EXPECT_EQ(message("1 2\n1\n"), "trace line 2: 1 times, the first round has 2");
  EXPECT_EQ(message("1 2\n1 x\n"), "trace line 2: 'x' is no time in seconds");
  EXPECT_EQ(message("1 -2\n"), "trace line 1: '-2' is no time in seconds");
  EXPECT_EQ(message("1 nan\n"), "trace line 1: 'nan' is no time in seconds");
  EXPECT_EQ(message("1 inf\n"), "trace line 1: 'inf' is no time in seconds");
  EXPECT_EQ(message("1 0.25\n", 0.5),
            "trace line 1: 0.25 s are less than the work alone, load 0.5 times 1 s");
}

TEST(DelayModelTest, RefusalsHaveTheNumbers) {
  EXPECT_EQ(DrawDelays("serverless", 0, 5, 1).status().message(),
            "serverless: 5 rounds of 0 workers, must be between 1 and 67108864 times in all");
  EXPECT_FALSE(DrawDelays("serverless", 1 << 20, 1 << 20, 1).ok());
  EXPECT_FALSE(DrawDelays("serverles", 4, 4, 1).ok());
}

}  // namespace
}  // namespace trireme
