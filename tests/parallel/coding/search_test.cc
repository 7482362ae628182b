#include "parallel/coding/search.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace trireme {
namespace {

TEST(SearchTest, CandidatesCanAllBeMade) {
  for (const char* code :
       {"uncoded", "fractional_repetition", "cyclic_repetition", "sr_sgc", "m_sgc", "cyclic_mds"}) {
    for (const int n : {1, 2, 5, 8}) {
      for (const StopKind kind : {StopKind::kModel, StopKind::kLookAhead}) {
        for (const Candidate& candidate : CandidatesOf(code, n, 3, {kind, 1})) {
          const auto made = MakeGradientCode(candidate.code, n, candidate.params);
          if (n == 1 && candidate.params.empty()) continue;  // The defaults are for more.
          EXPECT_TRUE(made.ok() || candidate.code == "cyclic_mds") << made.status();
          if (made.ok()) {
            EXPECT_LE((*made)->shape().delay, 3);
          }
        }
      }
    }
  }
  // Groups of 8: 4 2 1 of size 2, 3 (two groups of four do for s = 2 and 3), 8.
  EXPECT_EQ(CandidatesOf("fractional_repetition", 8, 0, {}).size(), 3u);
}

TEST(SearchTest, TheFastestIsTheFastest) {
  const auto profile = DrawDelays("gilbert_elliott", 6, 63, 1, {{"slow", "5"}});
  ASSERT_TRUE(profile.ok());
  const std::vector<Candidate> candidates =
      CandidatesOf("m_sgc", 6, 3, {StopKind::kLookAhead, 0.5});
  const StatusOr<Ranked> best = FastestOf(candidates, *profile, 60);
  ASSERT_TRUE(best.ok()) << best.status();
  double least = 1e9;
  for (const Candidate& candidate : candidates) {
    SimulationOptions options;
    options.rule = candidate.rule;
    options.num_jobs = 60;
    const auto code = MakeGradientCode(candidate.code, 6, candidate.params);
    least = std::min(least, SimulateCode(**code, *profile, options)->seconds);
  }
  EXPECT_EQ(best->run.seconds, least) << "giving up early has lost the best one";
  EXPECT_FALSE(FastestOf({}, *profile, 60).ok());
  EXPECT_FALSE(FastestOf(candidates, *profile, 64).ok());
}

TEST(ChooseCodeTest, WhatPaysDependsOnTheDelays) {
  // Slow workers take ten times as long, and recover: a code.
  const auto slow = DrawDelays("gilbert_elliott", 16, 100, 1,
                               {{"enter", "0.1"}, {"leave", "0.8"}, {"slow", "10"}});
  const StatusOr<Choice> coded = ChooseCode(*slow, 3, true);
  ASSERT_TRUE(coded.ok()) << coded.status();
  EXPECT_NE(coded->candidate.code, "uncoded") << coded->why;
  // All of a round is compute, and nobody is slow: none, and one job a round is as good as two.
  const auto even = DrawDelays("gilbert_elliott", 16, 100, 1, {{"enter", "0"}});
  EXPECT_EQ(ChooseCode(*even, 3, false)->candidate.code, "uncoded");
  // Most of a round is overhead: two jobs a round, or a code where that is not allowed.
  const auto overhead = DrawDelays("shifted_exponential", 64, 60, 1,
                                   {{"fixed", "1"}, {"per_load", "0.1"}, {"tail", "0.05"}});
  const StatusOr<Choice> accumulated = ChooseCode(*overhead, 2, true);
  EXPECT_EQ(accumulated->candidate.accumulate, 2) << accumulated->why;
  const StatusOr<Choice> single = ChooseCode(*overhead, 2, false);
  EXPECT_NE(single->candidate.code, "uncoded") << single->why;
  EXPECT_NE(single->why.find("the best of each: uncoded "), std::string::npos) << single->why;
  EXPECT_EQ(single->why.find('\n'), std::string::npos);
}

TEST(ChooseCodeTest, SmallWorldsAndShortProbes) {
  EXPECT_EQ(ChooseCode(DelayProfile(4, 4), 3, true).status().message(),
            "a probe of 4 rounds, at least 5 are needed with delays up to 3");
  const auto one = DrawDelays("serverless", 1, 20, 1);
  EXPECT_EQ(ChooseCode(*one, 3, false)->candidate.code, "uncoded");
}

}  // namespace
}  // namespace trireme
