#include "parallel/sync/exchange_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace trireme {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

ExchangeSpec Of(ExchangePoint point, int64_t period = 1) {
  ExchangeSpec spec;
  spec.point = point;
  spec.rule.params["period"] = std::to_string(period);
  return spec;
}

struct Refusal {
  const char* field;  // Which the message begins with,
  const char* words;  // and what it says.
  ExchangePoint point;
  int64_t period;
  std::function<void(ExchangeSpec& spec)> spoil;
};

constexpr ExchangePoint kGradient = ExchangePoint::kGradient;
constexpr ExchangePoint kParameters = ExchangePoint::kParameters;
constexpr ExchangePoint kDifference = ExchangePoint::kDifference;

const Refusal kRefusals[] = {
    {"rule", "every step", kGradient, 4, [](ExchangeSpec&) {}},
    {"rule", "every step", kGradient, 4, [](ExchangeSpec& s) { s.codec.name = "top_k"; }},
    {"rule", "every step", ExchangePoint::kMomentum, 1,
     [](ExchangeSpec& s) { s.rule.name = "qsr"; }},
    {"outer", "needs an anchor", kGradient, 1, [](ExchangeSpec& s) { s.outer.name = "sgd"; }},
    {"outer", "needs an anchor", kParameters, 8,
     [](ExchangeSpec& s) {
       s.mixer.name = "gossip";
       s.outer.name = "sgd";
     }},
    {"outer", "different lengths", kDifference, 8,
     [](ExchangeSpec& s) {
       s.rule = {"qsr", {{"alpha", "0.1"}, {"h_base", "2"}}, {}};
       s.outer = {"sgd", {{"momentum", "0.9"}}, {}};
     }},
    {"outer", "different lengths", kDifference, 8,
     [](ExchangeSpec& s) {
       s.rule = {"adaptive", {}, {}};
       s.outer.name = "slowmo";  // Its default momentum.
     }},
    {"outer", "reference", kDifference, 8,
     [](ExchangeSpec& s) {
       s.outer = {"sgd", {{"scale", "learning_rate_sum"}}, {}};
     }},
    {"mixer", "do not add up", kGradient, 1, [](ExchangeSpec& s) { s.codec.name = "int8"; }},
    {"mixer", "5 participants of 4", kDifference, 8,
     [](ExchangeSpec& s) {
       s.mixer = {"subset", {{"participants", "5"}}, {}};
     }},
    {"codec", "top_l", kGradient, 1, [](ExchangeSpec& s) { s.codec.name = "top_l"; }},
    {"mixer", "no mean", kDifference, 8, [](ExchangeSpec& s) { s.mixer.name = "gossip"; }},
    {"mixer", "no mean", kGradient, 1, [](ExchangeSpec& s) { s.mixer.name = "random_partner"; }},
    {"codec", "lose the parameters", kParameters, 8,
     [](ExchangeSpec& s) { s.codec.name = "int8"; }},
    {"fragments, delay and keep_local", "point difference", kParameters, 8,
     [](ExchangeSpec& s) { s.keep_local = 0.5; }},
    {"fragments", "do not divide", kDifference, 8, [](ExchangeSpec& s) { s.fragments = 3; }},
    {"fragments", "not positive", kDifference, 8, [](ExchangeSpec& s) { s.fragments = 0; }},
    {"delay", "next exchange", kDifference, 8,
     [](ExchangeSpec& s) {
       s.fragments = 2;
       s.delay = 4;
     }},
    {"delay", "negative", kDifference, 8, [](ExchangeSpec& s) { s.delay = -1; }},
    {"keep_local", "outside [0, 1]", kDifference, 8, [](ExchangeSpec& s) { s.keep_local = 1.5; }},
    {"keep_local", "elastic", kDifference, 8,
     [](ExchangeSpec& s) {
       s.outer.name = "elastic";
       s.keep_local = 0.5;
     }},
    {"weights", "3 numbers for 4 replicas", kDifference, 8,
     [](ExchangeSpec& s) {
       s.weights = {1, 1, 1};
     }},
    {"weights", "negative", kDifference, 8,
     [](ExchangeSpec& s) {
       s.weights = {1, 1, 1, -1};
     }},
    {"weights", "all are zero", kDifference, 8,
     [](ExchangeSpec& s) {
       s.weights = {0, 0, 0, 0};
     }},
    {"weights", "alike", kParameters, 8,
     [](ExchangeSpec& s) {
       s.mixer.name = "gossip";
       s.weights = {1, 2, 1, 1};
     }},
    {"weights", "in every round", kGradient, 1,
     [](ExchangeSpec& s) {
       s.memory = ExchangeMemory::kDifference;
       s.token_weights = true;
     }},
    {"weights", "weight 0", kGradient, 1,
     [](ExchangeSpec& s) {
       s.memory = ExchangeMemory::kDifference;
       s.weights = {1, 0, 1, 1};
     }},
    {"memory_decay", "outside [0, 1]", kGradient, 1,
     [](ExchangeSpec& s) { s.memory_decay = 1.01; }},
    {"momentum", "outside [0, 1)", ExchangePoint::kMomentum, 1,
     [](ExchangeSpec& s) { s.momentum = 1; }},
    {"state", "point parameters", kGradient, 1, [](ExchangeSpec& s) { s.state = "exp_avg"; }},
    {"until_step", "not after", kGradient, 1,
     [](ExchangeSpec& s) {
       s.from_step = 5;
       s.until_step = 5;
     }},
    {"from_step", "negative", kGradient, 1, [](ExchangeSpec& s) { s.from_step = -1; }},
};

TEST(ExchangeSpecTest, RefusesByTheNameOfTheField) {
  for (const Refusal& refusal : kRefusals) {
    ExchangeSpec spec = Of(refusal.point, refusal.period);
    refusal.spoil(spec);
    const Status status = CheckExchange(spec, 4);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << refusal.words;
    EXPECT_THAT(std::string(status.message()), StartsWith(refusal.field));
    EXPECT_THAT(std::string(status.message()), HasSubstr(refusal.words));
  }
}

TEST(ExchangeSpecTest, TakesTheRowsOfTheLiterature) {
  std::vector<ExchangeSpec> rows = {PlainGradientExchange(), Of(kGradient), Of(kParameters, 8),
                                    Of(kDifference, 8)};
  rows[0].rule.params["period"] = "1";
  ExchangeSpec streaming = Of(kDifference, 12);
  streaming.outer = {"sgd", {{"learning_rate", "0.4"}}, {}};
  streaming.codec.name = "e3m0";
  streaming.mixer.name = "scatter_gather";
  streaming.fragments = 3;
  streaming.delay = 3;
  streaming.keep_local = 0.5;
  rows.push_back(streaming);
  ExchangeSpec qsr = Of(kParameters);
  qsr.rule = {"qsr", {{"alpha", "0.1"}, {"h_base", "2"}}, {}};
  rows.push_back(qsr);
  ExchangeSpec scaled = Of(kDifference);
  scaled.rule = qsr.rule;
  scaled.outer = {
      "sgd", {{"momentum", "0.9"}, {"scale", "learning_rate_sum"}, {"reference", "0.1"}}, {}};
  rows.push_back(scaled);
  ExchangeSpec gossip = Of(kParameters);
  gossip.mixer.name = "gossip";
  rows.push_back(gossip);
  ExchangeSpec ef21 = Of(kGradient);
  ef21.memory = ExchangeMemory::kDifference;
  ef21.weights = {1, 2, 3, 4};
  rows.push_back(ef21);
  for (const ExchangeSpec& row : rows) {
    EXPECT_TRUE(CheckExchange(row, 4).ok()) << CheckExchange(row, 4);
  }
}

TEST(ExchangeSpecTest, RowsTakeTheParametersThatNoRowBeforeThemHas) {
  ExchangeSpec first = Of(kGradient), second = Of(kGradient), local = Of(kParameters, 4);
  first.pattern = "*weight";
  first.until_step = 10;
  const std::vector<std::string> paths = {"a.weight", "a.gain"};
  EXPECT_EQ(ParametersOf({first, second, local}, 0, paths), (std::vector<bool>{true, false}));
  EXPECT_EQ(ParametersOf({first, second, local}, 1, paths), (std::vector<bool>{false, true}));
  EXPECT_EQ(ParametersOf({first, second, local}, 2, paths), (std::vector<bool>{true, true}));
  second.from_step = 10;  // After the first one.
  EXPECT_EQ(ParametersOf({first, second}, 1, paths), (std::vector<bool>{true, true}));
}

TEST(ExchangeSpecTest, GradientsAreAddedUpOnTheWayOnlyWhereNoRowBeforeHasSome) {
  const ExchangeSpec plain = PlainGradientExchange();
  ExchangeSpec coded = plain, some = plain, weighed = plain;
  coded.pattern = "*weight";
  coded.codec.name = "powersgd";
  coded.until_step = 10;
  some.pattern = "*gain";
  weighed.token_weights = false;
  const ExchangeSpec local = Of(kParameters, 4);
  EXPECT_TRUE(AddsAllGradientsUp({plain}, 0));
  EXPECT_TRUE(AddsAllGradientsUp({local, plain}, 1));
  EXPECT_TRUE(AddsAllGradientsUp({plain, coded}, 0));
  for (const ExchangeSpec& before : {coded, some, weighed}) {
    EXPECT_FALSE(AddsAllGradientsUp({before}, 0));
    EXPECT_FALSE(AddsAllGradientsUp({before, plain}, 1));
  }
  ExchangeSpec after = plain;
  after.from_step = 10;
  EXPECT_TRUE(AddsAllGradientsUp({coded, after}, 1));
}

}  // namespace
}  // namespace trireme
