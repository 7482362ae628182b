// `trireme sync schedule`, run as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "core/io/file.h"
#include "launch/command_line.h"
#include "tests/launch/program.h"

namespace trireme {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kConfigs[] = TRIREME_SOURCE_DIR "/examples/configs/";

Result Schedule(const std::string& config, const std::vector<std::string>& more = {}) {
  std::vector<std::string> args = {TRIREME_PROGRAM, "sync", "schedule", "--config", config};
  args.insert(args.end(), more.begin(), more.end());
  return RunToEnd(std::move(args), {});
}

// examples/configs/tiny.textproto of 20 steps, with these exchanges.
std::string TinyWith(const std::string& name, const std::string& exchanges) {
  const std::string path = TestPath(name + ".textproto");
  EXPECT_TRUE(
      WriteFileAtomically(
          path, absl::StrCat(*ReadFile(absl::StrCat(kConfigs, "tiny.textproto")), exchanges))
          .ok());
  return path;
}

TEST(SyncCliTest, RunsOfThePaper) {
  const Result vit = Schedule(absl::StrCat(kConfigs, "qsr_vit.textproto"));
  EXPECT_EQ(vit.code, kExitDone) << vit.err;
  EXPECT_THAT(vit.out, AllOf(HasSubstr("  9711 exchanges in 93600 steps\n"),
                             ContainsRegex("\n  9710 +85458-93599 +8142 "),
                             HasSubstr("this run: 10.375 % of its traffic\n")));
  const Result resnet = Schedule(absl::StrCat(kConfigs, "qsr_resnet.textproto"));
  EXPECT_EQ(resnet.code, kExitDone) << resnet.err;
  EXPECT_THAT(resnet.out, AllOf(HasSubstr("  24792 exchanges in 62400 steps\n"),
                                ContainsRegex("\n  24791 +61571-62399 +829 "),
                                HasSubstr("this run: 39.731 % of its traffic\n")));
  // Some lines, or a line for every period.
  const Result all = Schedule(absl::StrCat(kConfigs, "qsr_vit.textproto"), {"--all"});
  EXPECT_LT(std::count(vit.out.begin(), vit.out.end(), '\n'), 40);
  EXPECT_GT(std::count(all.out.begin(), all.out.end(), '\n'), 100);
}

TEST(SyncCliTest, DataParallelismSendsAllOfItsTraffic) {
  const Result plain = Schedule(absl::StrCat(kConfigs, "tiny.textproto"), {"--ranks", "4"});
  EXPECT_EQ(plain.code, kExitDone) << plain.err;
  EXPECT_THAT(plain.out, AllOf(HasSubstr("4 replicas, 20 steps, 5 of them warm-up\n"),
                               ContainsRegex("\n  0-19 +0-19 +1 "),
                               HasSubstr("this run: 100.000 % of its traffic\n")));
}

TEST(SyncCliTest, CodecsAndRulesMultiply) {
  // Two replicas: an all-reduce sends every element once, a gather one encoding.
  const std::string config =
      TinyWith("coded", R"(exchanges { point: "difference" rule { name: "every" period: 4 }
                            codec { name: "rand_k" fraction: 0.25 } mixer { name: "all_gather" } })");
  const Result coded = Schedule(config, {"--ranks", "2"});
  EXPECT_EQ(coded.code, kExitDone) << coded.err;
  EXPECT_THAT(coded.out,
              AllOf(HasSubstr("  5 exchanges in 20 steps\n"), ContainsRegex("this run: 6[.][23]")));
}

TEST(SyncCliTest, FragmentsTakeTurns) {
  const Result fragments = Schedule(TinyWith(
      "fragments",
      R"(exchanges { point: "difference" rule { name: "every" period: 8 } fragments: 2 })"));
  EXPECT_EQ(fragments.code, kExitDone) << fragments.err;
  // The first ends at 4, 12 and 20, the other at 8, 16 and 20.
  EXPECT_THAT(
      fragments.out,
      AllOf(ContainsRegex(" fragment 1 of 2\n[^\n]*\n  0 +0-3 +4 [^\n]*\n  1-2 +4-19 +8 "),
            ContainsRegex(" fragment 2 of 2\n[^\n]*\n  0-1 +0-15 +8 [^\n]*\n  2 +16-19 +4 ")));
}

TEST(SyncCliTest, WhatDependsOnTheLossIsSaidToDoSo) {
  const Result adaptive = Schedule(TinyWith(
      "adaptive",
      R"(exchanges { point: "parameters" rule { name: "adaptive" period: 8 block_steps: 5 } })"));
  EXPECT_EQ(adaptive.code, kExitDone) << adaptive.err;
  EXPECT_THAT(adaptive.out, AllOf(HasSubstr("its periods depend on the loss"),
                                  HasSubstr("the share of its traffic depends on the loss\n"),
                                  Not(HasSubstr("this run"))));
}

TEST(SyncCliTest, RulesThatNeverFireAreRefusedWhereTheyStand) {
  const std::pair<const char*, const char*> refusals[] = {
      {"rule { name: \"every\" period: 21 }",
       "exchanges.0.rule: every: a period of 21 never comes round in a run of 20 steps"},
      {"rule { name: \"qsr\" alpha: 0 h_base: 2 }", "exchanges.0.rule: qsr: alpha is 0, must be"},
      {"rule { name: \"list\" steps: \"4,2\" }", "2 after 4 does not ascend"},
      {"rule { name: \"swap\" switch_step: 20 }", "switch_step 20 is not within a run of 20 steps"},
      {"rule { name: \"every\" period: 0 }", "every: period = 0 is outside >= 1"},
      {"from_step: 20", "exchanges.0.from_step: 20 is not within a run of 20 steps"},
      {"rule { name: \"evry\" }", "unknown sync_rule 'evry'; did you mean 'every'?"}};
  for (const auto& [row, message] : refusals) {
    const Result wrong = Schedule(
        TinyWith("refused", absl::StrCat("exchanges { point: \"parameters\" ", row, " }")));
    EXPECT_EQ(wrong.code, kExitError) << row;
    EXPECT_THAT(wrong.err, HasSubstr(message)) << row;
    EXPECT_THAT(wrong.err, HasSubstr("refused.textproto:")) << row;
    EXPECT_EQ(std::count(wrong.err.begin(), wrong.err.end(), '\n'), 1) << wrong.err;
  }
}

TEST(SyncCliTest, StepSizesOfEf21) {
  const auto step_size = [](std::vector<std::string> args) {
    args.insert(args.begin(), {TRIREME_PROGRAM, "sync", "step_size"});
    return RunToEnd(args, {});
  };
  const Result example =
      step_size({"--smoothness", "1,1,1,100", "--mean-smoothness=20", "--codec", "top_k", "--param",
                 "k=1", "--param", "block=0", "--elements", "10"});
  EXPECT_EQ(example.code, kExitDone) << example.err;
  EXPECT_THAT(example.out, AllOf(HasSubstr("mean of the constants 25.75, root of the mean square "
                                           "50.0075\n"),
                                 HasSubstr("alpha 0.1, xi 18.4868\n"),
                                 HasSubstr("EF21    step at most 0.00105878\n"),
                                 HasSubstr("EF21-W  step at most 0.00201598, 1.904 times that; "
                                           "weights 0.009709 0.009709 0.009709 0.9709\n")));
  const Result missing = step_size({"--codec", "top_k"});
  EXPECT_EQ(missing.code, kExitUsage);
  EXPECT_THAT(missing.err, HasSubstr("needs --smoothness"));
  EXPECT_THAT(step_size({"--smoothness", "1,x", "--codec", "top_k"}).err, HasSubstr("'x' is no"));
  EXPECT_THAT(step_size({"--smoothness", "1,2", "--codec", "sign"}).err,
              HasSubstr("needs a codec that contracts"));
  EXPECT_THAT(
      step_size({"--smoothness", "1,2", "--codec", "top_k", "--param", "k=9", "--elements", "4"})
          .err,
      HasSubstr("k = 9 is larger than the vector [4]"));
  EXPECT_THAT(step_size({"--smoothness", "1,2", "--codec", "top_k", "--param", "block=0"}).err,
              HasSubstr("needs --elements"));
}

TEST(SyncCliTest, Usage) {
  EXPECT_EQ(RunToEnd({TRIREME_PROGRAM, "sync", "schedule"}, {}).code, kExitUsage);
  const Result wrong = RunToEnd({TRIREME_PROGRAM, "sync", "shedule", "--config", "x"}, {});
  EXPECT_EQ(wrong.code, kExitUsage);
  EXPECT_THAT(wrong.err, HasSubstr("did you mean 'schedule'?"));
}

}  // namespace
}  // namespace trireme
