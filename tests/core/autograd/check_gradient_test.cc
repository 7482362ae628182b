#include "core/autograd/check_gradient.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/autograd/node.h"
#include "core/ops/ops.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

using ::testing::HasSubstr;

// y = x^2 with the derivative `slope` x.
CheckedFn Square(double slope) {
  return [slope](const Inputs& in) {
    const Tensor x = in[0].Detach();
    return Record("square", {in[0]}, Mul(x, x),
                  [x, slope](absl::Span<const Tensor> grads) -> Grads {
                    return {Mul(grads[0], Mul(x, slope))};
                  });
  };
}

class CheckGradientTest : public ::testing::Test {
 protected:
  std::unique_ptr<Device> device_ = testing::MakeTestDevice();
};

TEST_F(CheckGradientTest, TellsRightFromWrong) {
  const Tensor x = RandomTensor(*device_, {3, 2}, 1);
  EXPECT_TRUE(CheckGradient(Square(2), {x}).ok());
  EXPECT_THAT(CheckGradient(Square(2.001), {x}).message(),
              HasSubstr("input 0 of shape [3, 2], random direction: backward gives the slope"));
}

// Wrong in one element whose weight in a random direction may be small.
TEST_F(CheckGradientTest, LooksAtEveryElementOfSmallInputs) {
  const Tensor x = RandomTensor(*device_, {2}, 1);
  const auto fn = [](const Inputs& in) {
    const Tensor x = in[0].Detach();
    return Record("first", {in[0]}, Mul(x, x), [x](absl::Span<const Tensor> grads) -> Grads {
      Tensor dx = Mul(grads[0], Mul(x, 2));
      dx.View1D(1, 1).Fill(0);
      return {dx};
    });
  };
  EXPECT_THAT(CheckGradient(fn, {x}, 1e3).ToString(), HasSubstr("OK"));
  EXPECT_FALSE(CheckGradient(fn, {x}).ok());
}

TEST_F(CheckGradientTest, NoDependenceIsAnError) {
  const Tensor x = RandomTensor(*device_, {2}, 1);
  EXPECT_THAT(CheckGradient([](const Inputs& in) { return in[0].Detach(); }, {x}).message(),
              HasSubstr("does not depend"));
  const auto first_only = [](const Inputs& in) { return Mul(in[0], 2.0); };
  EXPECT_EQ(CheckGradient(first_only, {x, x}).message(), "input 1 got no gradient");
}

}  // namespace
}  // namespace trireme::testing
