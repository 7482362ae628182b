// Attention transfer: what is trained, by what, and what the others see of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/autograd/node.h"
#include "core/ops/ops.h"
#include "tests/models/attention/mixer_case.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::MixerUnderTest;

class LinearizedTest : public ::testing::Test {
 protected:
  static testing::MixerCase Case(const std::string& entry, ParamMap more = {}) {
    ParamMap params = {{"heads", "4"}, {"kv_heads", "2"}};
    params.insert(more.begin(), more.end());
    return {"", entry, params};
  }
  ForwardContext Training(bool training) const {
    ForwardContext context = testing::ContextOf(layout_);
    context.training = training;
    return context;
  }
  std::vector<double> Output(const MixerUnderTest& under_test, bool training) const {
    const NoGrad no_grad;
    return (*under_test.mixer)(x_, Training(training)).ToVector();
  }

  const std::unique_ptr<Device> device_ = testing::MakeTestDevice();
  const TokenLayout layout_ = testing::LayoutOf(testing::RaggedDocuments(), *device_);
  const Tensor x_ =
      testing::RandomTensor(*device_, {layout_.num_tokens(), testing::kMixerWidth}, 3);
  const MixerUnderTest teacher_{Case("softmax"), *device_};
  const MixerUnderTest student_{Case("linearized"), *device_};
  const MixerUnderTest transfer_{Case("linearized", {{"transfer", "true"}}), *device_};
};

TEST_F(LinearizedTest, TrainingPassesOnSoftmaxAndEvaluationDoesNot) {
  EXPECT_EQ(Output(transfer_, true), Output(teacher_, true));
  EXPECT_EQ(Output(transfer_, false), Output(student_, false));
  EXPECT_GT(testing::Distance(Output(student_, false), Output(teacher_, false)), 1e-2);
}

// Behind an output whose gradient is zero there is the transfer's loss alone. It is recovered from
// outputs of the heads, with wo = 1.
TEST_F(LinearizedTest, TheLossOfTheTransferTrainsTheFeatureMapsAlone) {
  for (const MixerUnderTest* under_test : {&teacher_, &student_, &transfer_}) {
    Tensor wo = under_test->parameters.Find("mixer.wo")->working.Detach();
    std::vector<double> identity(wo.numel());
    for (int64_t i = 0; i < wo.dim(0); ++i) identity[i * wo.dim(1) + i] = 1;
    wo.CopyFrom(Tensor::FromVector(*device_, wo.shape(), identity, wo.dtype()));
  }
  const std::vector<double> target = Output(teacher_, true);
  const auto loss = [&] {
    const std::vector<double> y = Output(student_, false);
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += (y[i] - target[i]) * (y[i] - target[i]);
    return sum / testing::kMixerWidth;
  };
  Sum(Mul((*transfer_.mixer)(x_, Training(true)), 0)).Backward();
  for (const auto& parameter : transfer_.parameters.parameters()) {
    const std::string& path = parameter->spec.path;
    const std::vector<double> grad = parameter->working.grad().ToVector();
    if (path != "mixer.q_map" && path != "mixer.k_map") {
      EXPECT_THAT(grad, ::testing::Each(0)) << path;
      continue;
    }
    // Along a direction that is the gradient itself.
    const Tensor weight = student_.parameters.Find(path)->working.Detach();
    const std::vector<double> start = weight.ToVector();
    constexpr double kStep = 1e-4;
    double ends[2], squares = 0;
    for (const double g : grad) squares += g * g;
    ASSERT_GT(squares, 0);
    const double norm = std::sqrt(squares);
    for (const int end : {0, 1}) {
      std::vector<double> moved = start;
      for (size_t i = 0; i < grad.size(); ++i) moved[i] += (end ? kStep : -kStep) * grad[i] / norm;
      weight.CopyFrom(Tensor::FromVector(*device_, weight.shape(), moved, weight.dtype()));
      ends[end] = loss();
    }
    weight.CopyFrom(Tensor::FromVector(*device_, weight.shape(), start, weight.dtype()));
    EXPECT_NEAR((ends[1] - ends[0]) / (2 * kStep), norm, 1e-5 * norm) << path;
  }
}

TEST_F(LinearizedTest, LigerHasNothingToTransfer) {
  ParameterSet parameters;
  EXPECT_THAT(
      std::string(testing::MakeMixer("linearized",
                                     {{"heads", "4"}, {"form", "liger"}, {"transfer", "true"}},
                                     testing::SmallShape(), Scope(parameters))
                      .status()
                      .message()),
      ::testing::HasSubstr("liger has nothing that transfer could learn"));
}

}  // namespace
}  // namespace trireme
