#include "parallel/sync/ef21.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "tests/parallel/sync/codec_case.h"

namespace trireme {
namespace {

TEST(Ef21StepSizesTest, TheExampleOfThePaper) {
  const auto steps = Ef21StepSizes({1, 1, 1, 100}, 20, 0.1);
  ASSERT_TRUE(steps.ok());
  EXPECT_NEAR(steps->quadratic_mean, 50.0075, 1e-4);
  EXPECT_EQ(steps->arithmetic_mean, 25.75);
  EXPECT_NEAR(steps->weights[3], 100 / 103.0, 1e-15);
  EXPECT_NEAR(std::accumulate(steps->weights.begin(), steps->weights.end(), 0.0), 1, 1e-15);
  // theta and beta as the authors' program has them.
  const double alpha = 0.1, t = -1 + std::sqrt(1 / (1 - alpha));
  const double theta = 1 - (1 - alpha) * (1 + t), beta = (1 - alpha) * (1 + 1 / t);
  EXPECT_NEAR(steps->xi, std::sqrt(beta / theta), 1e-12);
  EXPECT_NEAR(steps->ef21, 1 / (20 + steps->quadratic_mean * std::sqrt(beta / theta)), 1e-15);
  EXPECT_NEAR(steps->ef21_w, 1 / (20 + 25.75 * std::sqrt(beta / theta)), 1e-15);
}

TEST(Ef21StepSizesTest, WithoutLossItIsGradientDescent) {
  const auto steps = Ef21StepSizes({2, 6}, 3, 1);
  ASSERT_TRUE(steps.ok());
  EXPECT_EQ(steps->xi, 0);
  EXPECT_EQ(steps->ef21, 1 / 3.0);
  EXPECT_EQ(steps->ef21_w, 1 / 3.0);
  EXPECT_EQ(Ef21StepSizes({2, 6}, 0, 1)->ef21, 1 / 4.0);
}

TEST(Ef21StepSizesTest, WhatMakesNoSenseIsRefused) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(Ef21StepSizes({1, 2}, 0, 0).ok());  // sign with norm l2: no contraction.
  EXPECT_FALSE(Ef21StepSizes({1, 2}, 0, 1.5).ok());
  EXPECT_FALSE(Ef21StepSizes({1, 2}, 0, nan).ok());
  EXPECT_FALSE(Ef21StepSizes({1, -2}, 0, 1).ok());
  EXPECT_FALSE(Ef21StepSizes({1, nan}, 0, 1).ok());
  EXPECT_FALSE(Ef21StepSizes({0, 0}, 0, 1).ok());
  EXPECT_FALSE(Ef21StepSizes({}, 0, 1).ok());
  EXPECT_FALSE(Ef21StepSizes({1, 2}, 1.6, 1).ok());
  EXPECT_FALSE(Ef21StepSizes({1, 2}, -1, 1).ok());
}

TEST(SecantTest, OfAQuadraticIsAtMostItsLargestCurvatureAndFindsIt) {
  const std::vector<double> curvature = {1, 3, 0.5, 7};
  const auto gradient = [&](const std::vector<double>& x) {
    std::vector<double> g(4);
    for (int i = 0; i < 4; ++i) g[i] = curvature[i] * x[i];
    return g;
  };
  std::vector<double> x = {1, 1, 1, 1};
  double estimate = 0;
  for (int step = 0; step < 50; ++step) {
    const auto g = gradient(x);
    auto next = x;
    for (int i = 0; i < 4; ++i) next[i] -= 0.28 * g[i];
    const auto next_g = gradient(next);
    const double l = SecantOf(ViewOf(x), ViewOf(next), ViewOf(g), ViewOf(next_g)).smoothness();
    EXPECT_LE(l, 7 * (1 + 1e-12));
    estimate = std::max(estimate, l);
    x = next;
  }
  EXPECT_NEAR(estimate, 7, 0.01);
}

TEST(SecantTest, PartsAddUpAndNoStepSaysNothing) {
  const auto x = NormalVector<float>(40, 1), y = NormalVector<float>(40, 2);
  const auto g = NormalVector<float>(40, 3), h = NormalVector<float>(40, 4);
  const Secant whole = SecantOf(ViewOf(x), ViewOf(y), ViewOf(g), ViewOf(h));
  Secant sum;
  for (int part = 0; part < 2; ++part) {
    const auto cut = [&](const std::vector<float>& v) {
      return std::vector<float>(v.begin() + 20 * part, v.begin() + 20 * part + 20);
    };
    const auto a = cut(x), b = cut(y), c = cut(g), d = cut(h);
    sum.Add(SecantOf(ViewOf(a), ViewOf(b), ViewOf(c), ViewOf(d)));
  }
  EXPECT_NEAR(sum.smoothness(), whole.smoothness(), 1e-12);
  EXPECT_EQ(SecantOf(ViewOf(x), ViewOf(x), ViewOf(g), ViewOf(g)).smoothness(), 0);
}

// Two ill-matched quadratics, EF21 with top_k at the allowed step: it converges, and the larger
// step of EF21-W is faster for the same bytes.
TEST(Ef21StepSizesTest, ConvergesAtTheAllowedSteps) {
  const int n = 8, num_replicas = 4;
  std::vector<std::vector<double>> curvature(num_replicas, std::vector<double>(n));
  std::vector<double> smoothness(num_replicas);
  for (int k = 0; k < num_replicas; ++k) {
    for (int i = 0; i < n; ++i) curvature[k][i] = (k == 3 ? 100 : 1) * (1.0 + i) / n;
    smoothness[k] = curvature[k][n - 1];
  }
  const auto codec = CodecOrDie("top_k", {{"k", "2"}, {"block", "0"}});
  const auto steps = Ef21StepSizes(smoothness, 0, codec->Contraction({n}));
  ASSERT_TRUE(steps.ok());
  const auto final_loss = [&](double step, bool weighted) {
    std::vector<double> x(n, 1);
    std::vector<std::vector<double>> g(num_replicas, std::vector<double>(n, 0));
    for (int t = 0; t < 1000; ++t) {
      std::vector<double> mean(n, 0);
      for (int k = 0; k < num_replicas; ++k) {
        const double w = weighted ? steps->weights[k] : 1.0 / num_replicas;
        std::vector<double> difference(n);
        for (int i = 0; i < n; ++i) {
          difference[i] = curvature[k][i] * x[i] / (num_replicas * w) - g[k][i];
        }
        const auto sent = ThereAndBack(*codec, {n}, difference, {1, t});
        for (int i = 0; i < n; ++i) {
          g[k][i] += sent[i];
          mean[i] += w * g[k][i];
        }
      }
      for (int i = 0; i < n; ++i) x[i] -= step * mean[i];
    }
    return SquaredNorm(x);
  };
  const double plain = final_loss(steps->ef21, false), larger = final_loss(steps->ef21_w, false);
  EXPECT_LT(plain, 0.1);
  EXPECT_LT(larger, plain);
  // The weights cancel in a codec that is homogeneous.
  EXPECT_NEAR(final_loss(steps->ef21_w, true), larger, 1e-9 * larger);
}

}  // namespace
}  // namespace trireme
