#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/autograd/backward.h"
#include "core/ops/ops.h"
#include "tests/core/autograd/recording_sink.h"
#include "tests/core/ops/op_case.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

class RecomputeTest : public ::testing::Test {
 protected:
  RecomputeTest() {
    for (const Shape& shape : {Shape({6, 4}), Shape({4, 4}), Shape({4})}) {
      leaves_.push_back(RandomTensor(*device_, shape, leaves_.size()));
      leaves_.back().set_requires_grad();
    }
    layout_ = RaggedLayout(*device_, 6);
  }

  // x, a weight used as a parameter, a gain; dropout inside.
  std::vector<Tensor> Block(absl::Span<const Tensor> in) {
    const Tensor h = RmsNorm(Linear(in[0], leaves_[1]), leaves_[2], 1e-3);
    const Tensor dropped = Dropout(h, 0.4, MakeRngKey(1, "block"), layout_);
    return {Add(Silu(dropped), in[0]), Sum(h)};
  }

  std::unique_ptr<Device> device_ = testing::MakeTestDevice();
  std::vector<Tensor> leaves_;
  TokenLayout layout_;
};

TEST_F(RecomputeTest, EqualsPlainBitForBit) {
  for (const bool defer : {false, true}) {
    std::vector<std::vector<std::vector<double>>> grads;
    for (const bool recompute : {false, true}) {
      Tensor x = Mul(leaves_[0], 2.0);
      for (int layer = 0; layer < 2; ++layer) {
        const auto block = [this](absl::Span<const Tensor> in) { return Block(in); };
        const std::vector<Tensor> out = recompute ? Recompute({x}, block) : block({x});
        x = Add(out[0], out[1]);
      }
      RecordingSink sink(leaves_);
      DeferredWeights deferred;
      Backward({Sum(Mul(x, x))}, {Tensor()}, sink, defer ? &deferred : nullptr);
      deferred.Run(sink);
      grads.push_back(sink.grads());
    }
    EXPECT_EQ(grads[0], grads[1]);
  }
}

TEST_F(RecomputeTest, GradientsAreTheSlopesInsideRecomputeToo) {
  ExpectGradientsMatch(
      [&](const Inputs& in) {
        const auto inner = [](absl::Span<const Tensor> in) -> std::vector<Tensor> {
          return {Tanh(Linear(in[0], in[1]))};
        };
        // Nested, and the weight is an input: its gradient must come back, not go to the sink.
        return Recompute({in[0], Mul(in[1], 0.5)},
                         [&](absl::Span<const Tensor> in) { return Recompute(in, inner); })[0];
      },
      {leaves_[0], leaves_[1]});
}

TEST_F(RecomputeTest, UnusedOutputsCountAsZero) {
  const std::vector<Tensor> out =
      Recompute({leaves_[0]}, [this](absl::Span<const Tensor> in) { return Block(in); });
  RecordingSink used(leaves_), plain(leaves_);
  Backward({Sum(out[0])}, {Tensor()}, used);
  Backward({Sum(Block({leaves_[0]})[0])}, {Tensor()}, plain);
  EXPECT_EQ(used.grads(), plain.grads());
}

TEST_F(RecomputeTest, InputsWithoutGradientsStillReachParameters) {
  const Tensor x = RandomTensor(*device_, {6, 4}, 9);
  RecordingSink sink(leaves_);
  const auto out = Recompute({x}, [this](absl::Span<const Tensor> in) { return Block(in); });
  Backward({Sum(out[0])}, {Tensor()}, sink);
  EXPECT_FALSE(sink.grads()[1].empty());
  EXPECT_FALSE(sink.grads()[2].empty());
}

TEST_F(RecomputeTest, KeepsInputsOnly) {
  const auto deep = [](absl::Span<const Tensor> in) -> std::vector<Tensor> {
    Tensor y = in[0];
    for (int i = 0; i < 20; ++i) y = Tanh(y);
    return {y};
  };
  const Tensor x = Mul(RandomTensor(*device_, {10000}, 1).set_requires_grad(), 1.0);
  const int64_t before = device_->stats().current_total_bytes;
  const Tensor y = Recompute({x}, deep)[0];
  EXPECT_LE(device_->stats().current_total_bytes - before, 10000 * 8 + 4096);
}

TEST_F(RecomputeTest, NoGradKeepsNothing) {
  const NoGrad no_grad;
  const auto out =
      Recompute({leaves_[0]}, [this](absl::Span<const Tensor> in) { return Block(in); });
  EXPECT_FALSE(out[0].requires_grad());
}

}  // namespace
}  // namespace trireme::testing
