#include "parallel/sync/outer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace trireme {
namespace {

using ::testing::HasSubstr;

template <typename T>
View ViewOf(std::vector<T>& values) {
  View view;
  view.data = values.data();
  view.dtype = DTypeOf<T>::value;
  view.rank = 1;
  view.sizes[0] = static_cast<int64_t>(values.size());
  view.strides[0] = 1;
  return view;
}

std::unique_ptr<Outer> Make(absl::string_view name, const ParamMap& params = {}) {
  auto outer = MakeOuter(name, params);
  EXPECT_TRUE(outer.ok()) << outer.status();
  return *std::move(outer);
}

// One replica's side of an outer step over rounds.
template <typename T>
struct Replica {
  explicit Replica(const Outer& outer, std::vector<T> start)
      : anchor(start),
        theta(start),
        states(outer.state_names().size(), std::vector<T>(start.size())) {}

  void Apply(const Outer& outer, std::vector<T> delta, double learning_rate = 1,
             double learning_rate_sum = 1, double keep_local = 0, int num_replicas = 1) {
    std::vector<View> state_views;
    for (auto& state : states) state_views.push_back(ViewOf(state));
    OuterStep step;
    step.anchor = ViewOf(anchor);
    step.theta = ViewOf(theta);
    step.delta = ViewOf(delta);
    step.states = state_views;
    step.learning_rate = learning_rate;
    step.learning_rate_sum = learning_rate_sum;
    step.keep_local = keep_local;
    step.num_replicas = num_replicas;
    outer.Apply(step);
  }

  std::vector<T> anchor, theta;
  std::vector<std::vector<T>> states;
};

TEST(OuterTest, SgdGivesTheNumbersOfPyTorch) {
  // torch.optim.SGD(lr=0.7, momentum=0.9, nesterov=True), f64, with the deltas as gradients.
  const auto outer = Make("sgd");
  EXPECT_EQ(outer->state_names(), std::vector<std::string>{"momentum"});
  Replica<double> replica(*outer, {1, -2});
  const std::vector<std::vector<double>> deltas = {{0.5, -1}, {0.25, 3}, {-1, 0.125}};
  const std::vector<std::vector<double>> expected = {
      {0.335, -0.67}, {-0.281, -4.093}, {0.6521, -5.44995}};
  for (size_t i = 0; i < deltas.size(); ++i) {
    replica.theta = {9, 9};  // Does not matter: theta is the new anchor.
    replica.Apply(*outer, deltas[i]);
    for (int j = 0; j < 2; ++j) EXPECT_NEAR(replica.anchor[j], expected[i][j], 1e-15);
    EXPECT_EQ(replica.theta, replica.anchor);
  }
}

TEST(OuterTest, ConstantDifferencesGiveTheClosedForm) {
  // m_t = d (1 - mu^t) / (1 - mu); a_t = a_0 - lr sum_s (d + mu m_s), nesterov; - lr sum_s m_s
  // else.
  const double mu = 0.8, lr = 0.3, d = 0.25;
  for (const bool nesterov : {true, false}) {
    const auto outer = Make(
        "sgd",
        {{"learning_rate", "0.3"}, {"momentum", "0.8"}, {"nesterov", nesterov ? "true" : "false"}});
    Replica<double> f64(*outer, {1});
    Replica<float> f32(*outer, {1});
    double anchor = 1;
    for (int t = 1; t <= 20; ++t) {
      f64.Apply(*outer, {d});
      f32.Apply(*outer, {static_cast<float>(d)});
      const double m = d * (1 - std::pow(mu, t)) / (1 - mu);
      anchor -= lr * (nesterov ? d + mu * m : m);
      EXPECT_NEAR(f64.anchor[0], anchor, 1e-14);
      EXPECT_NEAR(f32.anchor[0], anchor, 1e-5);
      EXPECT_NEAR(f64.states[0][0], m, 1e-14);
    }
  }
}

TEST(OuterTest, SlowMoMeasuresDifferencesInLearningRates) {
  // u = 0.5 u + d / e; a = a - 0.9 e u, with e from round to round another.
  const auto outer = Make("slowmo", {{"learning_rate", "0.9"}});
  Replica<double> replica(*outer, {2, -1});
  std::vector<double> a = {2, -1}, u = {0, 0};
  for (const double e : {0.1, 0.05, 0.2}) {
    const std::vector<double> d = {0.3 * e, -e * e};
    replica.Apply(*outer, d, e);
    for (int j = 0; j < 2; ++j) {
      u[j] = 0.5 * u[j] + d[j] / e;
      a[j] -= 0.9 * e * u[j];
      EXPECT_NEAR(replica.anchor[j], a[j], 1e-15);
      EXPECT_NEAR(replica.states[0][j], u[j], 1e-15);
    }
  }
}

TEST(OuterTest, SlowMoWithoutMomentumAveragesAndSgdInLearningRatesIsSlowMo) {
  const auto plain = Make("slowmo", {{"momentum", "0"}});
  EXPECT_TRUE(plain->state_names().empty());
  const auto average = Make("average");
  const auto slowmo = Make("slowmo");
  const auto sgd = Make("sgd", {{"learning_rate", "1"},
                                {"momentum", "0.5"},
                                {"nesterov", "false"},
                                {"scale", "learning_rate"}});
  Replica<float> a(*plain, {1, 2}), b(*average, {1, 2}), c(*slowmo, {1, 2}), d(*sgd, {1, 2});
  for (const float e : {0.3f, 0.1f}) {
    a.Apply(*plain, {e, -2 * e}, e);
    b.Apply(*average, {e, -2 * e}, e);
    c.Apply(*slowmo, {e, -2 * e}, e);
    d.Apply(*sgd, {e, -2 * e}, e);
    EXPECT_EQ(a.anchor, b.anchor);
    EXPECT_EQ(c.anchor, d.anchor);
  }
  EXPECT_NE(a.anchor, c.anchor);
}

TEST(OuterTest, TheSumOfLearningRatesScalesRoundsOfAnyLength) {
  const double reference = 0.4, mu = 0.9, lr = 0.7;
  const auto scaled = Make("sgd", {{"scale", "learning_rate_sum"}, {"reference", "0.4"}});
  const auto plain = Make("sgd");
  // A round of the reference's length is the plain step.
  Replica<double> a(*scaled, {1}), b(*plain, {1});
  for (const double d : {0.5, -0.25, 1.0}) {
    a.Apply(*scaled, {d}, 0.1, reference);
    b.Apply(*plain, {d}, 0.1, reference);
    EXPECT_EQ(a.anchor, b.anchor);
  }
  // Any other: d / s, mu^s, lr s.
  Replica<double> replica(*scaled, {1});
  double anchor = 1, m = 0;
  for (const double sum : {0.1, 0.4, 1.2}) {
    const double s = sum / reference, d = 0.3 * sum;
    replica.Apply(*scaled, {d}, 0.1, sum);
    m = std::pow(mu, s) * m + d / s;
    anchor -= lr * s * (d / s + std::pow(mu, s) * m);
    EXPECT_NEAR(replica.anchor[0], anchor, 1e-15);
    EXPECT_NEAR(replica.states[0][0], m, 1e-15);
  }
}

TEST(OuterTest, ARoundAtLearningRateZeroIsAveragedAndKeepsTheMomentum) {
  for (const auto& outer : {Make("slowmo"), Make("sgd", {{"scale", "learning_rate"}}),
                            Make("sgd", {{"scale", "learning_rate_sum"}, {"reference", "1"}})}) {
    Replica<double> replica(*outer, {1});
    replica.Apply(*outer, {0.25}, 0.5, 0.5);
    const double before = replica.anchor[0], momentum = replica.states[0][0];
    replica.Apply(*outer, {0.125}, 0, 0);
    EXPECT_EQ(replica.anchor[0], before - 0.125);
    EXPECT_EQ(replica.theta[0], before - 0.125);
    EXPECT_EQ(replica.states[0][0], momentum);
  }
}

TEST(OuterTest, ElasticMovesBothFromTheOldAnchor) {
  // K replicas: x_k -= (beta / K) (x_k - a), a += (beta / K) sum_k (x_k - a).
  const int kReplicas = 3;
  const double alpha = 0.6 / kReplicas;
  const auto outer = Make("elastic", {{"beta", "0.6"}});
  EXPECT_TRUE(outer->merges_itself());
  std::vector<Replica<double>> replicas(kReplicas, Replica<double>(*outer, {1.5}));
  std::vector<double> x = {1, -2, 4};
  double a = 1.5, sum_before = 0;
  for (int k = 0; k < kReplicas; ++k) replicas[k].theta = {x[k]};
  for (const double v : x) sum_before += v;
  sum_before += a;
  for (int round = 0; round < 3; ++round) {
    double delta = 0, moved = 0;
    for (const double v : x) delta += (a - v) / kReplicas;
    for (double& v : x) {
      moved += alpha * (v - a);
      v -= alpha * (v - a);
    }
    a += moved;
    double sum = a;
    for (int k = 0; k < kReplicas; ++k) {
      replicas[k].Apply(*outer, {delta}, 1, 1, 0, kReplicas);
      EXPECT_NEAR(replicas[k].theta[0], x[k], 1e-15);
      EXPECT_NEAR(replicas[k].anchor[0], a, 1e-15);
      EXPECT_EQ(replicas[k].anchor, replicas[0].anchor);
      sum += x[k];
    }
    EXPECT_NEAR(sum, sum_before, 1e-14);  // Elastic: what one gains the other loses.
  }
}

TEST(OuterTest, KeepLocalMixesTheAnchorIn) {
  for (const absl::string_view name : {"average", "sgd", "slowmo"}) {
    const auto outer = Make(name);
    Replica<double> whole(*outer, {1, 2}), half(*outer, {1, 2}), all(*outer, {1, 2});
    half.theta = all.theta = {5, -3};
    whole.Apply(*outer, {0.5, 0.25}, 0.1, 0.3);
    half.Apply(*outer, {0.5, 0.25}, 0.1, 0.3, 0.25);
    all.Apply(*outer, {0.5, 0.25}, 0.1, 0.3, 1);
    EXPECT_EQ(half.anchor, whole.anchor) << name;
    for (int j = 0; j < 2; ++j) {
      const double local = j == 0 ? 5 : -3;
      EXPECT_NEAR(half.theta[j], 0.25 * local + 0.75 * whole.anchor[j], 1e-15) << name;
    }
    EXPECT_EQ(all.theta, (std::vector<double>{5, -3})) << name;
  }
}

TEST(OuterTest, AverageNeedsNoAnchorAndLeavesOneReplicaAsItIs) {
  const auto outer = Make("average");
  EXPECT_FALSE(outer->needs_anchor());
  std::vector<float> theta = {0.1f, -3e-7f, 1e30f};
  for (const double keep : {0.0, 0.3, 1.0}) {
    std::vector<float> mean = theta, local = theta;
    OuterStep step;
    step.theta = ViewOf(local);
    step.delta = ViewOf(mean);
    step.keep_local = keep;
    outer->Apply(step);
    EXPECT_EQ(local, theta) << keep;
  }
}

TEST(OuterTest, WhatIsNotFiniteStaysSoAndNothingIsLegal) {
  for (const Entry<OuterFactory>& entry : Outers()) {
    const auto outer = Make(entry.name);
    for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
      Replica<double> replica(*outer, {1, 1});
      replica.Apply(*outer, {bad, 0.5}, 0.1, 0.1);
      EXPECT_FALSE(std::isfinite(replica.anchor[0])) << entry.name;
      EXPECT_TRUE(std::isfinite(replica.anchor[1])) << entry.name;
    }
    Replica<float> empty(*outer, {});
    empty.Apply(*outer, {}, 0.1, 0.1);
  }
}

TEST(OuterTest, RejectsByName) {
  EXPECT_THAT(std::string(MakeOuter("nesterov", {}).status().message()), HasSubstr("outer step"));
  EXPECT_THAT(std::string(MakeOuter("sgd", {{"learning_rate", "0"}}).status().message()),
              HasSubstr("learning_rate"));
  EXPECT_THAT(std::string(MakeOuter("sgd", {{"momentum", "1.5"}}).status().message()),
              HasSubstr("momentum"));
  EXPECT_THAT(std::string(MakeOuter("sgd", {{"scale", "learning_rate_sum"}}).status().message()),
              HasSubstr("reference"));
  EXPECT_THAT(std::string(MakeOuter("sgd", {{"reference", "1"}}).status().message()),
              HasSubstr("reference"));
  EXPECT_THAT(std::string(MakeOuter("slowmo", {{"learning_rate", "0"}}).status().message()),
              HasSubstr("learning_rate"));
  EXPECT_THAT(std::string(MakeOuter("elastic", {{"beta", "0"}}).status().message()),
              HasSubstr("beta"));
  EXPECT_THAT(std::string(MakeOuter("average", {{"momentum", "1"}}).status().message()),
              HasSubstr("momentum"));
}

}  // namespace
}  // namespace trireme
