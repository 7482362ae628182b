#include "core/autograd/backward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/autograd/graph_cut.h"
#include "core/ops/ops.h"
#include "tests/core/autograd/recording_sink.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

using ::testing::ElementsAre;

class BackwardTest : public ::testing::Test {
 protected:
  Tensor Leaf(const Shape& shape, uint64_t seed = 1) {
    Tensor leaf = RandomTensor(*device_, shape, seed);
    leaf.set_requires_grad();
    return leaf;
  }
  Tensor Value(double value) {
    Tensor leaf = Tensor::Full(*device_, {}, DType::kF64, value);
    leaf.set_requires_grad();
    return leaf;
  }

  std::unique_ptr<Device> device_ = testing::MakeTestDevice();
};

TEST_F(BackwardTest, DiamondsAddUp) {
  const Tensor x = Value(3);
  const Tensor a = Mul(x, x), b = Mul(a, 2.0), c = Exp(Mul(a, 0.1));
  Add(Mul(b, c), a).Backward();
  // y = 2 x^2 e^(x^2 / 10) + x^2
  const double e = std::exp(0.9);
  EXPECT_NEAR(x.grad().Item(), 4 * 3 * e + 2 * 9 * e * 0.2 * 3 + 6, 1e-12);
}

TEST_F(BackwardTest, SumsOfGradientsLeaveTheirTermsAlone) {
  // Both inputs of Add get the same gradient tensor; adding another to one must not reach the
  // other.
  const Tensor x = Leaf({4}), z = Leaf({4}, 2);
  const Tensor y = Mul(x, 1.0), w = Mul(z, 1.0);
  const Tensor seed = RandomTensor(*device_, {4}, 5);
  RecordingSink sink({x, z});
  const std::vector<double> before = seed.ToVector();
  Backward({Add(Add(y, w), Add(y, y))}, {seed}, sink);
  EXPECT_EQ(seed.ToVector(), before);
  EXPECT_EQ(sink.grad(0), Mul(seed, 3.0).ToVector());
  EXPECT_EQ(sink.grad(1), before);
}

TEST_F(BackwardTest, GradientsAccumulateOverCalls) {
  const Tensor x = Value(3);
  Mul(x, x).Backward();
  Mul(x, 5.0).Backward();
  EXPECT_EQ(x.grad().Item(), 11);
  x.ClearGrad();
  EXPECT_FALSE(x.grad().defined());
}

TEST_F(BackwardTest, ALeafMayBeTheLoss) {
  const Tensor x = Value(3);
  x.Backward();
  EXPECT_EQ(x.grad().Item(), 1);
}

TEST_F(BackwardTest, SinkSlotsAreOverwrittenWhenFreshAndAddedToElse) {
  const Tensor x = Leaf({3, 4}), weight = Leaf({2, 4}, 2);
  RecordingSink sink({x, weight});
  const auto run = [&] { Backward({Sum(Linear(x, weight))}, {Tensor()}, sink); };
  run();
  const auto once = sink.grads();
  run();
  for (size_t i = 0; i < once.size(); ++i) {
    for (size_t k = 0; k < once[i].size(); ++k) EXPECT_EQ(sink.grad(i)[k], 2 * once[i][k]);
  }
}

TEST_F(BackwardTest, ASinkMayRefuseALeaf) {
  const Tensor x = Leaf({3, 4}), weight = Leaf({2, 4}, 2);
  const Tensor gain = Leaf({4}, 3), table = Leaf({5, 4}, 4);
  RecordingSink sink({});
  const Tensor ids = Tensor::FromHost<int32_t>(*device_, {3}, {1, 0, 4});
  const Tensor labels = Tensor::FromHost<int32_t>(*device_, {3}, {1, -1, 0});
  const Tensor h = Add(RmsNorm(x, gain, 1e-5), Embedding(ids, table));
  Backward({LinearCrossEntropy(h, weight, labels)}, {Tensor()}, sink);
  EXPECT_EQ(sink.events().size(), 4u);
}

TEST_F(BackwardTest, SeveralOutputsShareOneRun) {
  const Tensor x = Leaf({2});
  const Tensor h = Mul(x, 2.0);
  RecordingSink sink({x});
  const Tensor one = Tensor::Full(*device_, {2}, DType::kF64, 1);
  Backward({Mul(h, 3.0), Mul(h, 5.0)}, {one, one}, sink);
  EXPECT_THAT(sink.grad(0), ElementsAre(16, 16));
  EXPECT_THAT(sink.events(), ElementsAre("g0"));
}

// Every kind of op with a weight closure, and a weight that is not a leaf.
class SplitBackwardTest : public BackwardTest {
 protected:
  Tensor Loss() {
    const Tensor h = Embedding(ids_, table_);
    const Tensor normed = LayerNorm(RmsNorm(h, gain_, 1e-3), gain_, bias_, 1e-3);
    const Tensor low_rank = MatMul(left_, right_);
    const Tensor mixed = Add(Linear(normed, weight_, bias_), Linear(normed, low_rank));
    return LinearCrossEntropy(mixed, table_, labels_, 2);
  }

  const Tensor ids_ = Tensor::FromHost<int32_t>(*device_, {5}, {1, 0, 4, 1, 5});
  const Tensor labels_ = Tensor::FromHost<int32_t>(*device_, {5}, {1, -1, 0, 5, 5});
  const Tensor table_ = Leaf({6, 4}, 1), gain_ = Leaf({4}, 2), bias_ = Leaf({4}, 3);
  const Tensor weight_ = Leaf({4, 4}, 4), left_ = Leaf({4, 1}, 5), right_ = Leaf({1, 4}, 6);
  const std::vector<Tensor> leaves_ = {table_, gain_, bias_, weight_, left_, right_};
};

TEST_F(SplitBackwardTest, DeferredWeightsGiveTheSameGradients) {
  RecordingSink plain(leaves_), split(leaves_);
  Backward({Loss()}, {Tensor()}, plain);
  DeferredWeights deferred;
  Backward({Loss()}, {Tensor()}, split, &deferred);
  // Factors of the low-rank weight, and a plain bias, are done; weights proper are not.
  EXPECT_TRUE(split.grads()[3].empty());
  EXPECT_FALSE(split.grads()[4].empty());
  EXPECT_FALSE(deferred.empty());
  deferred.Run(split);
  EXPECT_TRUE(deferred.empty());
  EXPECT_EQ(split.events().size(), plain.events().size());
  for (size_t i = 0; i < leaves_.size(); ++i) {
    for (size_t k = 0; k < plain.grad(i).size(); ++k) {
      EXPECT_NEAR(split.grad(i)[k], plain.grad(i)[k], 1e-13) << "leaf " << i;
    }
  }
}

TEST_F(SplitBackwardTest, GradientsAreTheSlopes) {
  ExpectGradientsMatch(
      [&](const Inputs& in) {
        const Tensor h = Embedding(ids_, in[0]);
        const Tensor mixed = Linear(RmsNorm(h, in[1], 1e-3), MatMul(in[2], in[3]));
        return LinearCrossEntropy(mixed, in[0], labels_, 2);
      },
      {table_, gain_, left_, right_});
}

TEST_F(BackwardTest, PiecesBetweenCutsEqualTheWhole) {
  const Tensor x = Leaf({3, 4});
  std::vector<Tensor> leaves = {x};
  for (int unit = 0; unit < 3; ++unit) leaves.push_back(Leaf({4, 4}, unit + 2));
  // The weight twice, and a residual path around it.
  const auto block = [&](const Tensor& h, int unit) {
    return Add(h, Linear(Linear(h, leaves[unit + 1]), leaves[unit + 1]));
  };
  RecordingSink whole(leaves);
  Backward({Sum(block(block(block(x, 0), 1), 2))}, {Tensor()}, whole);

  for (const bool split : {false, true}) {
    RecordingSink pieces(leaves);
    std::vector<GraphCut> cuts(3);
    std::vector<DeferredWeights> deferred(3);
    std::vector<Tensor> outputs;
    for (int unit = 0; unit < 3; ++unit) {
      if (unit > 0) cuts[unit] = GraphCut(outputs.back());
      outputs.push_back(block(unit == 0 ? x : cuts[unit].tensor(), unit));
    }
    Tensor grad = Tensor::Full(*device_, {3, 4}, DType::kF64, 1);
    for (int unit = 2; unit >= 0; --unit) {
      Backward({outputs[unit]}, {grad}, pieces, split ? &deferred[unit] : nullptr);
      grad = cuts[unit].TakeGrad();
      EXPECT_EQ(grad.defined(), unit > 0);
      EXPECT_FALSE(cuts[unit].TakeGrad().defined());
    }
    for (DeferredWeights& weights : deferred) weights.Run(pieces);
    EXPECT_EQ(pieces.grads(), whole.grads());
  }
}

TEST_F(BackwardTest, AMillionNodesNeedNoStack) {
  const Tensor x = Value(1);
  const auto chain = [&] {
    Tensor y = x;
    for (int i = 0; i < 1000000; ++i) {
      y = Record("link", {y}, y.Detach(),
                 [](absl::Span<const Tensor> grads) -> Grads { return {grads[0]}; });
    }
    return y;
  };
  chain().Backward();
  EXPECT_EQ(x.grad().Item(), 1);
  chain();  // Thrown away without a backward.
}

TEST_F(BackwardTest, CapturedMemoryIsFreedOnTheWay) {
  // Each Exp keeps its output; while backward runs, these go one by one.
  constexpr int kLayers = 50;
  constexpr int64_t kElements = 10000;
  const Tensor x = Leaf({kElements});
  Tensor y = x;
  for (int i = 0; i < kLayers; ++i) y = Tanh(y);
  const Tensor loss = Sum(y);
  y = Tensor();
  const int64_t tensor_bytes = kElements * 8;
  EXPECT_GE(device_->stats().current_total_bytes, kLayers * tensor_bytes);
  class LookingSink : public GradientSink {
   public:
    explicit LookingSink(Device& device) : device_(device) {}
    Slot Open(const Tensor&) override {
      bytes_at_leaf = device_.stats().current_total_bytes;
      return {};
    }
    int64_t bytes_at_leaf = 0;

   private:
    Device& device_;
  } sink(*device_);
  device_->ResetPeaks();
  const int64_t held = device_->stats().current_total_bytes;
  Backward({loss}, {Tensor()}, sink);
  EXPECT_LE(sink.bytes_at_leaf, 6 * tensor_bytes);
  EXPECT_LE(device_->stats().peak_total_bytes, held + 4 * tensor_bytes);
}

TEST_F(BackwardTest, NoGradRecordsNothing) {
  const Tensor x = Value(3);
  const NoGrad no_grad;
  EXPECT_FALSE(Mul(x, x).requires_grad());
  const EnableGrad enable_grad;
  EXPECT_TRUE(Mul(x, x).requires_grad());
}

TEST_F(BackwardTest, FailureInTheMiddleLeavesTheLeavesUsable) {
  const Tensor x = Value(3);
  const Tensor y =
      Record("failing", {x}, x.CopyTo(DType::kF64), [](absl::Span<const Tensor>) -> Grads {
        throw Failure(absl::ResourceExhaustedError("no memory"));
      });
  EXPECT_THROW(y.Backward(), Failure);
  EXPECT_TRUE(GradEnabled());
  Mul(x, 2.0).Backward();
  EXPECT_EQ(x.grad().Item(), 2);
}

using BackwardDeathTest = BackwardTest;

TEST_F(BackwardDeathTest, ASecondBackwardIsRefused) {
  const Tensor x = Value(3);
  const Tensor y = Mul(x, x);
  y.Backward();
  EXPECT_DEATH(y.Backward(), "backward ran twice over the same graph \\[mul\\]");
}

TEST_F(BackwardDeathTest, BadStartsAreRefused) {
  const Tensor x = Leaf({2});
  EXPECT_DEATH(Mul(x, 2.0).Backward(), "starts from one element");
  EXPECT_DEATH(Tensor::Zeros(*device_, {}, DType::kF64).Backward(), "depends on no leaf");
  RecordingSink sink({x});
  EXPECT_DEATH(Backward({Mul(x, 2.0)}, {Tensor()}, sink), "needs a gradient to start from");
  EXPECT_DEATH(Backward({Mul(x, 2.0)}, {Leaf({3})}, sink), "gradient f64\\[3\\] for an output");
  EXPECT_DEATH(Tensor::Zeros(*device_, {2}, DType::kI32).set_requires_grad(), "no gradient");
  Tensor y = Mul(x, 2.0);
  EXPECT_DEATH(y.set_requires_grad(), "only a leaf");
}

}  // namespace
}  // namespace trireme::testing
