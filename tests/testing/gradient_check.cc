#include "tests/testing/gradient_check.h"

#include <gtest/gtest.h>

#include "core/base/rng.h"

namespace trireme::testing {

Tensor RandomTensor(Device& device, const Shape& shape, uint64_t seed, double scale, DType dtype) {
  std::vector<double> values(shape.numel());
  const RngKey key = MakeRngKey(seed, "random tensor");
  for (size_t i = 0; i < values.size(); ++i) values[i] = scale * NormalAt(key, i);
  return Tensor::FromVector(device, shape, values, dtype);
}

void ExpectGradientsMatch(const CheckedFn& fn, const Inputs& inputs, double tolerance,
                          int64_t full_limit) {
  const Status status = CheckGradient(fn, inputs, tolerance, full_limit);
  EXPECT_TRUE(status.ok()) << status.message();
}

}  // namespace trireme::testing
