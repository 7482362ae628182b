#include "optim/parameter_update.h"

#include <gtest/gtest.h>

#include "core/base/log.h"
#include "core/module/scope.h"
#include "optim/clip.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

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
