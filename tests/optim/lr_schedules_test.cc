#include "optim/lr_schedules.h"

#include <gtest/gtest.h>

#include <cmath>

namespace trireme {
namespace {

LrSchedule Make(const char* name, const ParamMap& params, int64_t num_steps) {
  auto schedule = LrSchedule::Create(name, params, 2.0, num_steps);
  EXPECT_TRUE(schedule.ok()) << schedule.status();
  return *schedule;
}

TEST(LrScheduleTest, WarmupRisesToThePeakForEverySchedule) {
  for (const auto& entry : LrSchedules()) {
    const LrSchedule schedule = Make(entry.name, {{"warmup_steps", "4"}}, 100);
    EXPECT_DOUBLE_EQ(schedule.LearningRate(0), 0.5) << entry.name;
    EXPECT_DOUBLE_EQ(schedule.LearningRate(1), 1.0) << entry.name;
    EXPECT_DOUBLE_EQ(schedule.LearningRate(3), 2.0) << entry.name;
    EXPECT_DOUBLE_EQ(schedule.LearningRate(4), 2.0) << entry.name;
  }
}

TEST(LrScheduleTest, ConstantStays) {
  EXPECT_DOUBLE_EQ(Make("constant", {}, 10).LearningRate(9), 2.0);
}

TEST(LrScheduleTest, LinearEndsAtItsFinalFactor) {
  const LrSchedule schedule = Make("linear", {{"final_factor", "0.5"}}, 11);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(0), 2.0);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(5), 1.5);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(10), 1.0);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(1000), 1.0);
}

TEST(LrScheduleTest, CosineIsHalfWayInTheMiddle) {
  const LrSchedule schedule = Make("cosine", {{"final_factor", "0"}, {"warmup_steps", "2"}}, 13);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(7), 1.0);
  EXPECT_NEAR(schedule.LearningRate(12), 0.0, 1e-15);
  EXPECT_NEAR(schedule.LearningRate(4), 1 + std::cos(0.2 * M_PI), 1e-15);
}

// (1 + cos(pi t / n)) / 2 of n steps does not reach its end in a run of n, as many recipes have it.
TEST(LrScheduleTest, TheDecayMayHaveALengthOfItsOwn) {
  const LrSchedule schedule =
      Make("cosine", {{"final_factor", "0"}, {"warmup_steps", "2"}, {"decay_steps", "8"}}, 10);
  EXPECT_EQ(schedule.warmup_steps(), 2);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(6), 1.0);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(9), 1 + std::cos(M_PI * 7 / 8));
  EXPECT_DOUBLE_EQ(Make("linear", {{"decay_steps", "4"}}, 100).LearningRate(50), 0.2);
}

TEST(LrScheduleTest, OneStepIsEnough) {
  for (const auto& entry : LrSchedules()) {
    EXPECT_DOUBLE_EQ(Make(entry.name, {}, 1).LearningRate(0), 2.0) << entry.name;
  }
}

TEST(LrScheduleTest, UnknownNamesAreRefused) {
  EXPECT_EQ(LrSchedule::Create("cosin", {}, 1, 1).status().message(),
            "unknown lr_schedule 'cosin'; did you mean 'cosine'?");
  EXPECT_EQ(LrSchedule::Create("cosine", {{"warmup", "1"}}, 1, 1).status().message(),
            "cosine: unknown parameter 'warmup'; known: warmup_steps, final_factor, decay_steps");
}

}  // namespace
}  // namespace trireme
