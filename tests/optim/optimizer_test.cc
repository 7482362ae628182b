// Every optimizer against its rule in plain loops, over sizes that split into tiles.
#include "optim/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::RandomTensor;

using Rule = std::function<void(std::vector<double>& p, const std::vector<double>& g,
                                std::vector<std::vector<double>>& states, int64_t step)>;

// Three steps of the named optimizer in f64 against the rule.
void ExpectFollows(const char* name, const ParamMap& params, double lr, double decay, double scale,
                   const Rule& rule) {
  auto device = testing::MakeTestDevice({.num_threads = 3});
  auto optimizer = MakeOptimizer(name, params);
  ASSERT_TRUE(optimizer.ok()) << optimizer.status();
  UpdateSlice slice;
  slice.owned = RandomTensor(*device, {1000, 67}, 1);  // Two tiles and a bit.
  slice.learning_rate = lr;
  slice.weight_decay = decay;
  std::vector<double> expected = slice.owned.ToVector();
  std::vector<std::vector<double>> states;
  for (size_t i = 0; i < (*optimizer)->state_names().size(); ++i) {
    slice.states.push_back(Tensor::Zeros(*device, slice.owned.shape(), DType::kF64));
    states.emplace_back(expected.size());
  }
  UpdateSlice empty = slice;
  empty.owned = Tensor::Zeros(*device, {0}, DType::kF64);
  empty.grad = empty.owned;
  empty.states.assign(states.size(), empty.owned);
  for (int64_t step = 1; step <= 3; ++step) {
    slice.grad = RandomTensor(*device, slice.owned.shape(), 100 + step);
    std::vector<double> g = slice.grad.ToVector();
    for (double& value : g) value *= scale;
    (*optimizer)->Update({empty, slice}, scale, step);
    rule(expected, g, states, step);
    const std::vector<double> actual = slice.owned.ToVector();
    for (size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 1e-14) << i;
    // The gradient is only read.
    ASSERT_EQ(slice.grad.ToVector()[7] * scale, g[7]);
  }
}

TEST(OptimizerTest, AdamW) {
  const double b1 = 0.8, b2 = 0.9, eps = 1e-3, lr = 0.1, decay = 0.3;
  ExpectFollows("adamw", {{"beta1", "0.8"}, {"beta2", "0.9"}, {"epsilon", "1e-3"}}, lr, decay, 0.5,
                [&](auto& p, const auto& g, auto& states, int64_t t) {
                  for (size_t i = 0; i < p.size(); ++i) {
                    double &m = states[0][i], &v = states[1][i];
                    m = b1 * m + (1 - b1) * g[i];
                    v = b2 * v + (1 - b2) * g[i] * g[i];
                    const double m_hat = m / (1 - std::pow(b1, t)),
                                 v_hat = v / (1 - std::pow(b2, t));
                    p[i] -= lr * (m_hat / (std::sqrt(v_hat) + eps) + decay * p[i]);
                  }
                });
}

TEST(OptimizerTest, FirstStepOfAdamWIsTheSignOfTheGradient) {
  auto device = testing::MakeTestDevice();
  auto optimizer = MakeOptimizer("adamw", {});
  UpdateSlice slice;
  slice.owned = Tensor::Zeros(*device, {2}, DType::kF32);
  slice.grad = Tensor::FromVector(*device, {2}, {1e-3, -50}, DType::kF32);
  slice.states = {Tensor::Zeros(*device, {2}, DType::kF32),
                  Tensor::Zeros(*device, {2}, DType::kF32)};
  slice.learning_rate = 0.01;
  (*optimizer)->Update({slice}, 1, 1);
  EXPECT_NEAR(slice.owned.ToVector()[0], -0.01, 1e-6);
  EXPECT_NEAR(slice.owned.ToVector()[1], 0.01, 1e-6);
}

// Adam in the first two of three steps; in the third the gradient is the first moment.
TEST(OptimizerTest, OneBitAdam) {
  const double b1 = 0.8, b2 = 0.9, eps = 1e-3, lr = 0.1, decay = 0.3;
  ExpectFollows("onebit_adam",
                {{"beta1", "0.8"}, {"beta2", "0.9"}, {"epsilon", "1e-3"}, {"freeze_step", "2"}}, lr,
                decay, 0.5, [&](auto& p, const auto& g, auto& states, int64_t t) {
                  for (size_t i = 0; i < p.size(); ++i) {
                    double &m = states[0][i], &v = states[1][i];
                    m = t <= 2 ? b1 * m + (1 - b1) * g[i] : g[i];
                    if (t <= 2) v = b2 * v + (1 - b2) * g[i] * g[i];
                    p[i] -= lr * (m / (std::sqrt(v) + eps) + decay * p[i]);
                  }
                });
}

// Fed with moving averages, it is Adam with a second moment that no longer changes.
TEST(OptimizerTest, FrozenOneBitAdamIsAdamWithAFixedSecondMoment) {
  auto device = testing::MakeTestDevice();
  const double b1 = 0.9, eps = 1e-8, lr = 0.01;
  auto optimizer = MakeOptimizer("onebit_adam", {{"freeze_step", "3"}});
  UpdateSlice slice;
  slice.owned = RandomTensor(*device, {501}, 1);
  slice.states = {Tensor::Zeros(*device, {501}, DType::kF64),
                  Tensor::Zeros(*device, {501}, DType::kF64)};
  slice.learning_rate = lr;
  for (int64_t step = 1; step <= 3; ++step) {
    slice.grad = RandomTensor(*device, {501}, 100 + step);
    (*optimizer)->Update({slice}, 1, step);
  }
  std::vector<double> p = slice.owned.ToVector(), m = slice.states[0].ToVector();
  const std::vector<double> v = slice.states[1].ToVector();
  for (int64_t step = 4; step <= 6; ++step) {
    const std::vector<double> g = RandomTensor(*device, {501}, 100 + step).ToVector();
    for (size_t i = 0; i < p.size(); ++i) {
      m[i] = b1 * m[i] + (1 - b1) * g[i];
      p[i] -= lr * m[i] / (std::sqrt(v[i]) + eps);
    }
    slice.grad = Tensor::FromVector(*device, {501}, m, DType::kF64);
    (*optimizer)->Update({slice}, 1, step);
    EXPECT_EQ(slice.states[0].ToVector(), m);
    const std::vector<double> actual = slice.owned.ToVector();
    for (size_t i = 0; i < p.size(); ++i) ASSERT_NEAR(actual[i], p[i], 1e-14) << i;
  }
  EXPECT_EQ(slice.states[1].ToVector(), v);
}

TEST(OptimizerTest, OneBitAdamLeavesAloneWhatNeverHadAGradient) {
  auto device = testing::MakeTestDevice();
  auto optimizer = MakeOptimizer("onebit_adam", {{"freeze_step", "1"}});
  UpdateSlice slice;
  slice.owned = Tensor::FromVector(*device, {2}, {1, 2}, DType::kF32);
  slice.states = {Tensor::Zeros(*device, {2}, DType::kF32),
                  Tensor::Zeros(*device, {2}, DType::kF32)};
  slice.learning_rate = 0.01;
  slice.grad = Tensor::FromVector(*device, {2}, {0, 0.5}, DType::kF32);
  (*optimizer)->Update({slice}, 1, 1);
  slice.grad = Tensor::FromVector(*device, {2}, {0.25, 0.25}, DType::kF32);  // Of a sign codec.
  (*optimizer)->Update({slice}, 1, 2);
  EXPECT_EQ(slice.owned.ToVector()[0], 1);
  EXPECT_EQ(slice.states[0].ToVector()[0], 0);
  EXPECT_LT(slice.owned.ToVector()[1], 2);
}

void ExpectSgd(double momentum, double dampening, bool nesterov) {
  const double lr = 0.1, decay = 0.2;
  ExpectFollows("sgd",
                {{"momentum", std::to_string(momentum)},
                 {"dampening", std::to_string(dampening)},
                 {"nesterov", nesterov ? "true" : "false"}},
                lr, decay, 2, [&](auto& p, const auto& g, auto& states, int64_t t) {
                  for (size_t i = 0; i < p.size(); ++i) {
                    const double gi = g[i] + decay * p[i];
                    double step = gi;
                    if (momentum > 0) {
                      double& b = states[0][i];
                      b = t == 1 ? gi : momentum * b + (1 - dampening) * gi;
                      step = nesterov ? gi + momentum * b : b;
                    }
                    p[i] -= lr * step;
                  }
                });
}

TEST(OptimizerTest, SgdPlain) { ExpectSgd(0, 0, false); }
TEST(OptimizerTest, SgdMomentum) { ExpectSgd(0.75, 0, false); }
TEST(OptimizerTest, SgdDampened) { ExpectSgd(0.75, 0.25, false); }
TEST(OptimizerTest, SgdNesterov) { ExpectSgd(0.75, 0, true); }

TEST(OptimizerTest, TheWorkingCopyIsTheRoundedMaster) {
  auto device = testing::MakeTestDevice();
  for (const auto& entry : Optimizers()) {
    auto optimizer = MakeOptimizer(entry.name, {});
    UpdateSlice slice;
    slice.owned = RandomTensor(*device, {999}, 1, 1, DType::kF32);
    slice.grad = RandomTensor(*device, {999}, 2, 1, DType::kF32);
    slice.working = slice.owned.CopyTo(DType::kBF16);
    for (size_t i = 0; i < (*optimizer)->state_names().size(); ++i) {
      slice.states.push_back(Tensor::Zeros(*device, {999}, DType::kF32));
    }
    slice.learning_rate = 0.1;
    (*optimizer)->Update({slice}, 1, 1);
    EXPECT_EQ(slice.working.ToVector(), slice.owned.CopyTo(DType::kBF16).ToVector()) << entry.name;
  }
}

}  // namespace
}  // namespace trireme
