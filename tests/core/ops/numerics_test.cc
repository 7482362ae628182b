// Values at the edges: infinities, NaN, ties, large logits, long sums.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/ops/ops.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

using ::testing::ElementsAre;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");

class NumericsTest : public ::testing::Test {
 protected:
  Tensor Vector(const std::vector<double>& values, DType dtype = DType::kF32) {
    return Tensor::FromVector(*device_, {static_cast<int64_t>(values.size())}, values, dtype);
  }
  std::unique_ptr<Device> device_ = testing::MakeTestDevice();
};

TEST_F(NumericsTest, TiesShareOrGoToTheFirst) {
  Tensor a = Vector({1, 2, 3}), b = Vector({1, 3, 2});
  a.set_requires_grad();
  b.set_requires_grad();
  Sum(Maximum(a, b)).Backward();
  EXPECT_THAT(a.grad().ToVector(), ElementsAre(0.5, 0, 1));
  EXPECT_THAT(b.grad().ToVector(), ElementsAre(0.5, 1, 0));
  Tensor x = Vector({1, 5, 5, 2});
  x.set_requires_grad();
  Max(x, 0).Backward();
  EXPECT_THAT(x.grad().ToVector(), ElementsAre(0, 1, 0, 0));
  EXPECT_EQ(ArgMax(x, 0).Item(), 1);
}

TEST_F(NumericsTest, NanIsNotLost) {
  const Tensor x = Vector({1, kNan, 3});
  EXPECT_TRUE(std::isnan(Max(x, 0).Item()));
  EXPECT_EQ(ArgMax(x, 0).Item(), 1);
  EXPECT_TRUE(std::isnan(Sum(x).Item()));
  for (const Tensor& y :
       {Maximum(x, Vector({0, 0, 0})), Maximum(Vector({0, 0, 0}), x), Minimum(x, Vector({0, 0, 0})),
        Relu(x), Clamp(x, 0, 1), Gelu(x), Silu(x), Tanh(x), SwiGlu(x, x), Softmax(x)}) {
    EXPECT_TRUE(std::isnan(y.ToVector()[1]));
  }
  EXPECT_THAT(Equal(x, x).ToVector(), ElementsAre(1, 0, 1));
  EXPECT_TRUE(std::isnan(x.CopyTo(DType::kBF16).ToVector()[1]));
}

TEST_F(NumericsTest, SoftmaxOfLargeAndMaskedLogits) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    EXPECT_THAT(Softmax(Vector({1e30, 1e30, 0, -kInfinity}, dtype)).ToVector(),
                ElementsAre(0.5, 0.5, 0, 0));
    EXPECT_THAT(Softmax(Vector({-1e4, -kInfinity}, dtype)).ToVector(), ElementsAre(1, 0));
    const double last = LogSoftmax(Vector({0, -1024}, dtype)).ToVector()[1];
    EXPECT_EQ(last, -1024);
  }
}

TEST_F(NumericsTest, CrossEntropyOfLargeLogitsIsFinite) {
  Tensor logits =
      Tensor::FromVector(*device_, {2, 3}, {1e4, 0, -1e4, 5, 5, -kInfinity}, DType::kF32);
  logits.set_requires_grad();
  const Tensor labels = Tensor::FromHost<int32_t>(*device_, {2}, {1, 0});
  const Tensor loss = CrossEntropy(logits, labels);
  EXPECT_NEAR(loss.Item(), 1e4 + std::log(2), 1e-2);
  loss.Backward();
  EXPECT_THAT(logits.grad().ToVector(), ElementsAre(1, -1, 0, -0.5, 0.5, 0));
}

TEST_F(NumericsTest, IgnoredTokensMayHoldAnything) {
  Tensor x = Tensor::FromVector(*device_, {2, 2}, {kNan, kInfinity, 1, 2}, DType::kF32);
  Tensor weight = RandomTensor(*device_, {3, 2}, 1, 1, DType::kF32);
  x.set_requires_grad();
  const Tensor labels = Tensor::FromHost<int32_t>(*device_, {2}, {kIgnoredLabel, 2});
  const Tensor loss = LinearCrossEntropy(x, weight, labels);
  EXPECT_TRUE(std::isfinite(loss.Item()));
  loss.Backward();
  EXPECT_EQ(x.grad().ToVector()[0], 0);
  EXPECT_TRUE(std::isfinite(x.grad().ToVector()[3]));
}

TEST_F(NumericsTest, SigmoidFamilySaturates) {
  const Tensor x = Vector({-1e4, 1e4, -kInfinity, kInfinity});
  EXPECT_THAT(Sigmoid(x).ToVector(), ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(Tanh(x).ToVector(), ElementsAre(-1, 1, -1, 1));
  EXPECT_THAT(Silu(Vector({-1e4, 1e4})).ToVector(), ElementsAre(0, 1e4));
  EXPECT_THAT(Gelu(Vector({-1e4, 1e4})).ToVector(), ElementsAre(0, 1e4));
  Tensor gate = Vector({-1e4, 1e4});
  gate.set_requires_grad();
  Sum(SwiGlu(gate, Vector({1, 1}))).Backward();
  EXPECT_THAT(gate.grad().ToVector(), ElementsAre(0, 1));
}

TEST_F(NumericsTest, LongSumsStayAccurate) {
  // One by one, f32 would lose about 1e-4 of this, and bf16 would stop at 256.
  const int64_t n = 1000003;
  const Tensor x = Tensor::Full(*device_, {n}, DType::kF32, 0.1);
  EXPECT_NEAR(Sum(x).Item() / n, 0.1f, 2e-7);
  EXPECT_EQ(Sum(Tensor::Full(*device_, {1 << 12}, DType::kBF16, 1)).Item(), 1 << 12);
  EXPECT_EQ(Sum(Tensor::Full(*device_, {1 << 12, 3}, DType::kBF16, 1), 0).ToVector()[1], 1 << 12);
}

TEST_F(NumericsTest, NormsOfZerosAndConstants) {
  const Tensor zero = Tensor::Zeros(*device_, {2, 4}, DType::kF32);
  const Tensor gain = Tensor::Full(*device_, {4}, DType::kF32, 1);
  EXPECT_EQ(RmsNorm(zero, gain, 1e-5).ToVector(), std::vector<double>(8, 0));
  // The variance is of differences from the mean: a large common part does not drown it.
  const Tensor shifted =
      Tensor::FromVector(*device_, {1, 4}, {4097, 4096, 4095, 4096}, DType::kF32);
  const std::vector<double> y = LayerNorm(shifted, gain, Tensor(), 0).ToVector();
  EXPECT_NEAR(y[0], std::sqrt(2), 1e-6);
  EXPECT_NEAR(y[2], -std::sqrt(2), 1e-6);
}

TEST_F(NumericsTest, RotaryIsExactAtLargePositions) {
  const int32_t position = 1000003;
  const Tensor x = Tensor::FromVector(*device_, {1, 1, 2}, {1, 0}, DType::kF32);
  const Tensor at = Tensor::FromHost<int32_t>(*device_, {1}, {position});
  const std::vector<double> y = Rotary(x, at, 10000).ToVector();
  EXPECT_NEAR(y[0], std::cos(position), 2e-7);
  EXPECT_NEAR(y[1], std::sin(position), 2e-7);
  const Tensor back = Tensor::FromHost<int32_t>(*device_, {1}, {-3});
  EXPECT_NEAR(Rotary(x, back, 10000).ToVector()[1], std::sin(-3.0), 2e-7);
}

TEST_F(NumericsTest, DropoutKeepsItsShareAndItsPlace) {
  const int64_t n = 1000, c = 100;
  std::vector<int32_t> position(n);
  for (int64_t i = 0; i < n; ++i) position[i] = static_cast<int32_t>(i);
  TokenLayout layout;
  layout.sample = Tensor::Zeros(*device_, {n}, DType::kI64);
  layout.position = Tensor::FromHost<int32_t>(*device_, {n}, position);
  const Tensor x = Tensor::Full(*device_, {n, c}, DType::kF32, 1);
  const RngKey key = MakeRngKey(1, "here");
  const Tensor y = Dropout(x, 0.25, key, layout);
  EXPECT_NEAR(Mean(y).Item(), 1, 0.01);
  EXPECT_NEAR(Max(Reshape(y, {n * c}), 0).Item(), 1 / 0.75, 1e-6);
  // The last 400 tokens alone draw what they drew among all.
  TokenLayout part;
  part.sample = layout.sample.View1D(600, 400);
  part.position = layout.position.View1D(600, 400);
  EXPECT_EQ(Dropout(Slice(x, 0, 600, 400), 0.25, key, part).ToVector(),
            Slice(y, 0, 600, 400).ToVector());
  EXPECT_NE(Dropout(x, 0.25, MakeRngKey(1, "there"), layout).ToVector(), y.ToVector());
  EXPECT_EQ(Dropout(x, 0, key, layout).ToVector(), x.ToVector());
}

TEST_F(NumericsTest, AnAddedLossIsOneMoreTerm) {
  Tensor x = Vector({1, -2, 3}), w = Vector({2, 5, -1});
  x.set_requires_grad();
  w.set_requires_grad();
  const Tensor y = AddLoss(x, Sum(Mul(w, w)));
  EXPECT_EQ(y.ToVector(), x.ToVector());
  Sum(Mul(y, 7)).Backward();  // Whatever the rest weighs, the added term weighs one.
  EXPECT_THAT(x.grad().ToVector(), ElementsAre(7, 7, 7));
  EXPECT_THAT(w.grad().ToVector(), ElementsAre(4, 10, -2));
}

}  // namespace
}  // namespace trireme::testing
