#include "optim/parameter_update.h"

#include <gtest/gtest.h>

#include "core/base/log.h"
#include "core/module/scope.h"
#include "optim/clip.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

class ParameterUpdateTest : public ::testing::Test {
 protected:
  ParameterUpdateTest() {
    const Scope root(parameters_);
    root.Declare("head", {4}, Init::Constant(1));
    root.Child("body").Declare("gain", {4}, Init::Constant(1), /*decay=*/false);
    CHECK_OK(parameters_.Materialize(*device_, DType::kF32, 1));
    sgd_ = *MakeOptimizer("sgd", {{"momentum", "0"}, {"weight_decay", "0.5"}});
  }
  double After(absl::string_view path) { return parameters_.Find(path)->owned.ToVector()[0]; }

  std::unique_ptr<Device> device_ = testing::MakeTestDevice();
  ParameterSet parameters_;
  std::shared_ptr<const Optimizer> sgd_;
};

TEST_F(ParameterUpdateTest, GroupsScaleTheRateAndSwitchDecayOff) {
  auto update =
      ParameterUpdate::Create(parameters_, {{"head", sgd_, 0.1, true}, {"*", sgd_, 1, true}});
  ASSERT_TRUE(update.ok()) << update.status();
  const UnitTensors gradients(UnitsOf(parameters_), OwnedShapes(parameters_), *device_, DType::kF32,
                              MemoryKind::kGradients, "gradients");
  gradients.All().Fill(2);
  update->Step(gradients, /*learning_rate=*/1, /*grad_scale=*/0.5);
  EXPECT_FLOAT_EQ(After("head"), 1 - 0.1 * (1 + 0.5));
  EXPECT_FLOAT_EQ(After("body.gain"), 0);  // Declared without decay.
  EXPECT_EQ(update->step(), 1);
}

TEST_F(ParameterUpdateTest, EveryParameterAndEveryGroupMustMatch) {
  EXPECT_EQ(ParameterUpdate::Create(parameters_, {{"head", sgd_, 1, true}}).status().message(),
            "no parameter group matches 'body.gain'");
  EXPECT_EQ(ParameterUpdate::Create(parameters_, {{"*", sgd_, 1, true}, {"head", sgd_, 1, true}})
                .status()
                .message(),
            "parameter group 'head' has no parameter left to match");
}

TEST_F(ParameterUpdateTest, StatesAreNamedForTheCheckpoint) {
  std::shared_ptr<const Optimizer> adamw = *MakeOptimizer("adamw", {});
  auto update = ParameterUpdate::Create(parameters_, {{"*", adamw, 1, true}});
  const auto states = update->States();
  ASSERT_EQ(states.size(), 4u);
  EXPECT_EQ(states[2].parameter->spec.path, "body.gain");
  EXPECT_EQ(states[3].name, "exp_avg_sq");
}

TEST(ClipTest, Factor) {
  EXPECT_EQ(ClipFactor(2, 0), 1);
  EXPECT_EQ(ClipFactor(2, 4), 1);
  EXPECT_EQ(ClipFactor(4, 1), 0.25);
}

TEST(ClipTest, SumOfSquaresDoesNotDependOnThreads) {
  auto one = testing::MakeTestDevice({.num_threads = 1}),
       three = testing::MakeTestDevice({.num_threads = 3});
  std::vector<double> values(100003);
  double expected = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(0.001 * static_cast<double>(i));
    expected += values[i] * values[i];
  }
  const Shape shape = {100003};
  const double sum = SumOfSquares(Tensor::FromVector(*one, shape, values, DType::kF32));
  EXPECT_NEAR(sum / expected, 1, 1e-13);
  EXPECT_EQ(sum, SumOfSquares(Tensor::FromVector(*three, shape, values, DType::kF32)));
}

}  // namespace
}  // namespace trireme
