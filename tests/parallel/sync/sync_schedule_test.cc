#include "parallel/sync/sync_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace trireme {
namespace {

// Linear warm-up to `peak`, then min + (peak - min) (1 + cos(pi (t - w) / (T - w))) / 2.
RunTimes Cosine(double peak, double min, int64_t num_steps, int64_t warmup_steps) {
  RunTimes times;
  times.num_steps = num_steps;
  times.warmup_steps = warmup_steps;
  times.peak_learning_rate = peak;
  times.learning_rate = [=](int64_t step) {
    if (step < warmup_steps) return peak * (step + 1) / warmup_steps;
    const double progress = static_cast<double>(step - warmup_steps) / (num_steps - warmup_steps);
    return min + (peak - min) * (1 + std::cos(M_PI * progress)) / 2;
  };
  return times;
}

SyncSchedule Walk(const char* name, const ParamMap& params, const RunTimes& times) {
  auto rule = MakeSyncRule(name, params, times.num_steps);
  EXPECT_TRUE(rule.ok()) << rule.status();
  return WalkRun(**rule, times);
}

// Gu et al. 2024 report that the first sends 10.4 % of what data parallelism sends, the second
// 39.7 %.
TEST(SyncScheduleTest, RunsOfThePaper) {
  const RunTimes vit = Cosine(0.008, 1e-6, 93600, 10000);
  const SyncSchedule of_vit = Walk("qsr", {{"alpha", "0.0175"}, {"h_base", "4"}}, vit);
  EXPECT_EQ(of_vit.num_exchanges(), 9711);
  EXPECT_EQ(of_vit.PeriodAt(93600 * 50 / 100), 13);
  EXPECT_EQ(of_vit.PeriodAt(93600 * 75 / 100), 142);
  EXPECT_EQ(of_vit.PeriodAt(93600 * 90 / 100), 2769);
  EXPECT_EQ(of_vit.runs.back().first_step, 85458);
  EXPECT_EQ(of_vit.runs.back().period, 8142);

  const RunTimes resnet = Cosine(0.8, 1e-6, 62400, 1560);
  const SyncSchedule of_resnet = Walk("qsr", {{"alpha", "0.2"}, {"h_base", "2"}}, resnet);
  EXPECT_EQ(of_resnet.num_exchanges(), 24792);
  EXPECT_EQ(of_resnet.PeriodAt(62400 * 50 / 100), 2);
  EXPECT_EQ(of_resnet.PeriodAt(62400 * 75 / 100), 2);
  EXPECT_EQ(of_resnet.PeriodAt(62400 * 90 / 100), 91);
  EXPECT_EQ(of_resnet.runs.back().period, 829);
}

TEST(SyncScheduleTest, ARoundKeepsItsPeriodPastTheEndOfWarmup) {
  RunTimes times = Cosine(1, 0, 40, 10);
  times.learning_rate = [](int64_t) { return 0.1; };
  const SyncSchedule schedule = Walk("qsr", {{"alpha", "0.3"}, {"h_base", "4"}}, times);
  // Rounds of 4 at 0, 4 and 8; then of 8, since in binary 0.3 / 0.1 is a bit less than 3.
  const int64_t after = static_cast<int64_t>(std::pow(0.3 / 0.1, 2.0));
  ASSERT_EQ(schedule.runs.size(), 3u);
  EXPECT_EQ(schedule.runs[0].num_rounds, 3);
  EXPECT_EQ(schedule.runs[1].first_step, 12);
  EXPECT_EQ(schedule.runs[1].period, after);
  EXPECT_EQ(schedule.runs[2].end_step(), 40);
}

TEST(SyncScheduleTest, TheLearningRateIsThatOfTheFirstStep) {
  RunTimes times;
  times.num_steps = 100;
  times.peak_learning_rate = 1;
  times.learning_rate = [](int64_t step) { return step < 15 ? 0.25 : 0.125; };
  const SyncSchedule schedule = Walk("linear", {{"alpha", "2.5"}, {"h_base", "1"}}, times);
  ASSERT_EQ(schedule.runs.size(), 2u);
  EXPECT_EQ(schedule.runs[0].period, 10);
  EXPECT_EQ(schedule.runs[0].num_rounds, 2) << "the second crosses step 15";
  EXPECT_EQ(schedule.runs[1].period, 20);
  EXPECT_EQ(schedule.runs[1].num_rounds, 4);
}

TEST(SyncScheduleTest, ALaterBeginning) {
  RunTimes times = Cosine(1, 0, 50, 0);
  times.first_step = 30;
  const SyncSchedule schedule = Walk("every", {{"period", "8"}}, times);
  EXPECT_EQ(schedule.num_exchanges(), 3);
  EXPECT_EQ(schedule.runs.back().first_step, 46);
  EXPECT_EQ(schedule.runs.back().period, 4);
}

// Random rules of random runs: rounds tile the run, the last exchange is at its end.
TEST(SyncScheduleTest, PeriodsAddUpToTheRun) {
  std::mt19937_64 random(1);
  const auto up_to = [&](int64_t n) { return static_cast<int64_t>(random() % n) + 1; };
  const auto real = [&](double high) { return high * static_cast<double>(up_to(1000)) / 1000; };
  for (int i = 0; i < 4000; ++i) {
    const int64_t n = up_to(i % 2 == 0 ? 20 : 3000) + 1;
    RunTimes times = Cosine(real(2), i % 3 == 0 ? 0 : 1e-9, n, up_to(n) - 1);
    if (i % 5 == 0) {
      const double rate = real(1);
      times.learning_rate = [rate](int64_t step) { return step % 3 == 0 ? 0 : rate; };
    }
    std::vector<int64_t> steps;
    for (int64_t step = up_to(n - 1); step < n && steps.size() < 9; step += up_to(n)) {
      steps.push_back(step);
    }
    const std::string list = absl::StrJoin(steps, ",");
    const std::string period = absl::StrCat(up_to(n)), alpha = absl::StrCat(real(3));
    const std::string switch_step = absl::StrCat(up_to(n - 1));
    const std::pair<const char*, ParamMap> rules[] = {
        {"every", {{"period", period}}},
        {"power", {{"alpha", alpha}, {"h_base", period}, {"gamma", absl::StrCat(real(5))}}},
        {"qsr", {{"alpha", alpha}, {"h_base", period}}},
        {"linear", {{"alpha", alpha}, {"h_base", period}}},
        {"cubic", {{"alpha", alpha}, {"h_base", period}}},
        {"post_local", {{"switch_step", switch_step}, {"period", "1"}}},
        {"swap", {{"switch_step", switch_step}}},
        {"stagewise", {{"period", period}, {"growth", "1.5"}, {"boundaries", list}}},
        {"list", {{"steps", list}}}};
    const auto& [name, params] = rules[i % std::size(rules)];
    const SyncSchedule schedule = Walk(name, params, times);
    int64_t end = 0, rounds = 0, sum = 0;
    for (const RoundRun& run : schedule.runs) {
      ASSERT_EQ(run.first_step, end) << name;
      ASSERT_EQ(run.first_round, rounds) << name;
      ASSERT_GE(run.period, 1) << name;
      rounds += run.num_rounds;
      sum += run.num_rounds * run.period;
      end = run.end_step();
    }
    ASSERT_EQ(sum, n) << name;
    ASSERT_EQ(schedule.num_exchanges(), rounds) << name;
  }
}

// The adaptive rule too, whatever the losses are.
TEST(SyncScheduleTest, AdaptivePeriodsAddUpToTheRun) {
  std::mt19937_64 random(2);
  const double losses[] = {0, 1, 3, 1e-3, 1e30, -1, std::nan(""), INFINITY};
  for (int i = 0; i < 500; ++i) {
    Clock clock;
    clock.num_steps = 2 + static_cast<int64_t>(random() % 400);
    clock.peak_learning_rate = 1;
    const auto rule = MakeSyncRule("adaptive",
                                   {{"period", absl::StrCat(1 + random() % clock.num_steps)},
                                    {"block_steps", absl::StrCat(1 + random() % 50)}},
                                   clock.num_steps);
    ASSERT_TRUE(rule.ok());
    int64_t rounds = 0;
    while (clock.step < clock.num_steps) {
      clock.learning_rate = random() % 3;
      const Signals signals = {losses[random() % std::size(losses)],
                               losses[random() % std::size(losses)]};
      const int64_t period = NextPeriod(**rule, clock, signals);
      ASSERT_GE(period, 1);
      if (clock.round > 0 && clock.step + period < clock.num_steps) {
        ASSERT_LE(period, clock.last_period);
      }
      clock.last_period = period;
      clock.step += period;
      ++clock.round;
      ++rounds;
    }
    ASSERT_EQ(clock.step, clock.num_steps);
    ASSERT_GE(rounds, 1);
  }
}

TEST(SyncScheduleTest, EveryRuleHasATestOfItsSum) {
  EXPECT_EQ(SyncRules().size(), 10u) << "add the new rule to the tests above";
}

}  // namespace
}  // namespace trireme
