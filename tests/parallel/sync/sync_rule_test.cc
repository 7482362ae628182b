#include "parallel/sync/sync_rule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace trireme {
namespace {

std::unique_ptr<SyncRule> Make(const char* name, const ParamMap& params, int64_t num_steps) {
  auto rule = MakeSyncRule(name, params, num_steps);
  EXPECT_TRUE(rule.ok()) << rule.status();
  return *std::move(rule);
}

std::string Refusal(const char* name, const ParamMap& params, int64_t num_steps = 100) {
  return std::string(MakeSyncRule(name, params, num_steps).status().message());
}

Clock At(int64_t step, double learning_rate = 0.1) {
  Clock clock;
  clock.step = step;
  clock.num_steps = 1000;
  clock.learning_rate = learning_rate;
  clock.peak_learning_rate = 0.1;
  return clock;
}

// The period that the rule asks for at each step.
std::vector<int64_t> PeriodsAt(const SyncRule& rule, const std::vector<int64_t>& steps) {
  std::vector<int64_t> periods;
  for (const int64_t step : steps) periods.push_back(rule.Period(At(step), {}));
  return periods;
}

TEST(SyncRuleTest, EveryIsConstant) {
  EXPECT_EQ(PeriodsAt(*Make("every", {{"period", "7"}}, 1000), {0, 7, 994}),
            (std::vector<int64_t>{7, 7, 7}));
}

TEST(SyncRuleTest, PowersOfTheLearningRate) {
  const ParamMap params = {{"alpha", "0.5"}, {"h_base", "4"}};
  for (const auto& [name, gamma] : std::initializer_list<std::pair<const char*, int>>{
           {"linear", 1}, {"qsr", 2}, {"cubic", 3}}) {
    const auto rule = Make(name, params, 1000);
    ParamMap general = params;
    general["gamma"] = std::to_string(gamma);
    const auto power = Make("power", general, 1000);
    for (const double rate : {0.4, 0.24, 0.125, 0.0625, 0.001}) {
      const auto period = static_cast<int64_t>(std::floor(std::pow(0.5 / rate, gamma)));
      EXPECT_EQ(rule->Period(At(10, rate), {}), std::max<int64_t>(4, period)) << name << rate;
      EXPECT_EQ(power->Period(At(10, rate), {}), std::max<int64_t>(4, period)) << name << rate;
    }
  }
  EXPECT_EQ(Make("qsr", params, 1000)->Period(At(10, 0.125), {}), 16);
  EXPECT_EQ(Make("power", {{"alpha", "0.5"}, {"h_base", "1"}, {"gamma", "0.5"}}, 1000)
                ->Period(At(10, 0.005), {}),
            10);
}

TEST(SyncRuleTest, APowerOfALearningRateOfZeroIsTheRestOfTheRun) {
  const auto rule = Make("qsr", {{"alpha", "0.5"}, {"h_base", "4"}}, 1000);
  for (const double rate : {0.0, 1e-300, 1e-10}) {
    EXPECT_EQ(NextPeriod(*rule, At(900, rate), {}), 100) << rate;
  }
}

TEST(SyncRuleTest, PowersRestInWarmup) {
  const auto rule = Make("qsr", {{"alpha", "0.5"}, {"h_base", "4"}}, 1000);
  Clock clock = At(9, 1e-3);
  clock.warmup_steps = 10;
  EXPECT_EQ(rule->Period(clock, {}), 4);
  clock.step = 10;
  EXPECT_EQ(rule->Period(clock, {}), 250000);
}

TEST(SyncRuleTest, SwitchesHappenAtTheirStep) {
  EXPECT_EQ(PeriodsAt(*Make("post_local", {{"switch_step", "30"}, {"period", "8"}}, 1000),
                      {0, 29, 30, 31, 500}),
            (std::vector<int64_t>{1, 1, 8, 8, 8}));
  EXPECT_EQ(PeriodsAt(*Make("swap", {{"switch_step", "30"}}, 1000), {0, 29, 30}),
            (std::vector<int64_t>{1, 1, kRestOfTheRun}));
}

TEST(SyncRuleTest, StagesGrowAndEndWithAnExchange) {
  const auto rule =
      Make("stagewise", {{"period", "4"}, {"growth", "1.6"}, {"boundaries", "10,30"}}, 1000);
  EXPECT_EQ(PeriodsAt(*rule, {0, 4, 8, 9, 10, 16, 28, 30, 40}),
            (std::vector<int64_t>{4, 4, 2, 1, 6, 6, 2, 10, 10}));
  EXPECT_EQ(Make("stagewise", {{"period", "4"}, {"growth", "1e300"}, {"boundaries", "1,2,3"}}, 1000)
                ->Period(At(5), {}),
            kRestOfTheRun);
}

TEST(SyncRuleTest, ListsNameTheSteps) {
  const auto rule = Make("list", {{"steps", "3,10,11"}}, 1000);
  EXPECT_EQ(PeriodsAt(*rule, {0, 3, 4, 10, 11}), (std::vector<int64_t>{3, 7, 6, 1, kRestOfTheRun}));
}

TEST(SyncRuleTest, AdaptiveFallsWithTheLoss) {
  const auto rule = Make("adaptive", {{"period", "20"}, {"block_steps", "100"}}, 1000);
  EXPECT_TRUE(rule->needs_signals());
  EXPECT_EQ(rule->Period(At(0), {}), 20);
  const auto next = [&](int64_t step, int64_t last, double loss, double rate = 0.1) {
    Clock clock = At(step, rate);
    clock.last_period = last;
    return rule->Period(clock, {/*first_loss=*/4.0, loss});
  };
  EXPECT_EQ(next(80, 20, 1.0), 20) << "within the block";
  EXPECT_EQ(next(100, 20, 1.0), 10);        // 20 sqrt(1 / 4)
  EXPECT_EQ(next(110, 20, 1.1), 11);        // ceil(20 sqrt(1.1 / 4))
  EXPECT_EQ(next(100, 20, 0.5, 0.05), 10);  // 20 sqrt(2 * 0.5 / 4)
  EXPECT_EQ(next(200, 10, 1.0), 5) << "half, where it does not fall";
  EXPECT_EQ(next(200, 5, 4.0), 3);
  EXPECT_EQ(next(200, 1, 4.0), 1);
  EXPECT_EQ(next(200, 8, std::nan("")), 4);
  EXPECT_EQ(next(200, 8, std::numeric_limits<double>::infinity()), 4);
  EXPECT_EQ(rule->Period(At(0), {0, 0}), 20);
  Clock warmup = At(100);
  warmup.last_period = 20;
  warmup.warmup_steps = 101;
  EXPECT_EQ(rule->Period(warmup, {4.0, 1.0}), 20);
}

TEST(SyncRuleTest, PeriodsAreCutToTheRun) {
  EXPECT_EQ(NextPeriod(*Make("swap", {{"switch_step", "1"}}, 1000), At(700), {}), 300);
  EXPECT_EQ(NextPeriod(*Make("every", {{"period", "64"}}, 1000), At(999), {}), 1);
  // A loss of zero asks for no steps at all.
  Clock clock = At(100);
  clock.last_period = 20;
  EXPECT_EQ(NextPeriod(*Make("adaptive", {{"period", "20"}, {"block_steps", "1"}}, 1000), clock,
                       {1.0, 0.0}),
            1);
}

TEST(SyncRuleTest, WhatNeverFiresIsRefusedByName) {
  EXPECT_EQ(Refusal("every", {{"period", "101"}}),
            "every: a period of 101 never comes round in a run of 100 steps");
  EXPECT_TRUE(MakeSyncRule("every", {{"period", "100"}}, 100).ok());
  EXPECT_EQ(Refusal("every", {{"period", "0"}}), "every: period = 0 is outside >= 1");
  EXPECT_EQ(Refusal("every", {}), "every: period is required (steps of a round)");
  EXPECT_EQ(Refusal("qsr", {{"alpha", "0"}, {"h_base", "4"}}),
            "qsr: alpha is 0, must be positive and finite (for a constant period: every)");
  EXPECT_EQ(Refusal("cubic", {{"alpha", "inf"}, {"h_base", "4"}}),
            "cubic: alpha is inf, must be positive and finite (for a constant period: every)");
  EXPECT_EQ(Refusal("power", {{"alpha", "1"}, {"h_base", "4"}, {"gamma", "0"}}),
            "power: gamma is 0, must be positive and finite (for a constant period: every)");
  EXPECT_EQ(Refusal("qsr", {{"alpha", "1"}, {"h_base", "101"}}),
            "qsr: a period of 101 never comes round in a run of 100 steps");
  EXPECT_EQ(Refusal("post_local", {{"switch_step", "100"}, {"period", "1"}}),
            "post_local: switch_step 100 is not within a run of 100 steps");
  EXPECT_EQ(Refusal("post_local", {{"switch_step", "90"}, {"period", "11"}}),
            "post_local: a period of 11 never comes round in a run of 10 steps");
  EXPECT_EQ(Refusal("swap", {{"switch_step", "100"}}),
            "swap: switch_step 100 is not within a run of 100 steps");
  EXPECT_EQ(Refusal("list", {{"steps", "10,30,20"}}),
            "list: steps = \"10,30,20\": 20 after 30 does not ascend");
  EXPECT_EQ(Refusal("list", {{"steps", "10,101"}}), "list: steps = \"10,101\": 101 is beyond 100");
  EXPECT_EQ(Refusal("list", {{"steps", "0,10"}}), "list: steps = \"0,10\": 0 is not positive");
  EXPECT_EQ(Refusal("list", {{"steps", ""}}), "list: steps = \"\": '' is not an integer");
  EXPECT_EQ(Refusal("stagewise", {{"period", "4"}, {"boundaries", "50,100"}}),
            "stagewise: boundaries = \"50,100\": 100 is beyond 99");
  EXPECT_EQ(Refusal("adaptive", {{"period", "200"}, {"block_steps", "10"}}),
            "adaptive: a period of 200 never comes round in a run of 100 steps");
  EXPECT_EQ(Refusal("qrs", {}), "unknown sync_rule 'qrs'; did you mean 'qsr'?");
}

}  // namespace
}  // namespace trireme
