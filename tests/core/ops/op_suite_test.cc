// What every op of the table must do, whatever it computes.
#include <gtest/gtest.h>

#include <cmath>

#include "core/autograd/backward.h"
#include "core/ops/ops.h"
#include "tests/core/ops/op_case.h"
#include "tests/testing/device.h"

namespace trireme::testing {
namespace {

class OpSuite : public ::testing::TestWithParam<OpCase> {
 protected:
  std::unique_ptr<Device> device_ = testing::MakeTestDevice();
};

std::vector<HostTensor> OnHost(const Inputs& inputs) {
  std::vector<HostTensor> host;
  for (const Tensor& x : inputs) host.push_back({x.shape(), x.ToVector()});
  return host;
}

bool IsDifferentiable(const OpCase& c, Device& device) {
  return c.fn(MakeInputs(device, c.inputs)).dtype() == DType::kF64;
}

// The output, then the gradient of each floating input, for an output gradient of fixed random
// values.
std::vector<Tensor> RunBothWays(const OpCase& c, Inputs inputs) {
  for (Tensor& x : inputs) {
    if (IsFloating(x.dtype())) x.set_requires_grad();
  }
  const Tensor y = c.fn(inputs);
  std::vector<Tensor> results = {y};
  if (!y.requires_grad()) return results;
  Sum(Mul(y, RandomTensor(y.device(), y.shape(), 7, 1, y.dtype()))).Backward();
  for (const Tensor& x : inputs) {
    if (IsFloating(x.dtype())) results.push_back(x.grad());
  }
  return results;
}

void ExpectDefinition(const OpCase& c, const Inputs& inputs) {
  const Tensor y = c.fn(inputs);
  const HostTensor expected = c.reference(OnHost(inputs));
  ASSERT_EQ(y.shape(), expected.shape);
  const std::vector<double> values = y.ToVector();
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_NEAR(values[i], expected.values[i], 1e-12 * (1 + std::abs(expected.values[i])))
        << "element " << i;
  }
}

TEST_P(OpSuite, ValuesFollowTheDefinition) {
  ExpectDefinition(GetParam(), MakeInputs(*device_, GetParam().inputs));
}

TEST_P(OpSuite, LargeSizesDoToo) {
  if (GetParam().large.empty()) return;
  const Inputs inputs = MakeInputs(*device_, GetParam().large);
  ExpectDefinition(GetParam(), inputs);
  if (!IsDifferentiable(GetParam(), *device_) || GetParam().has_kinks) return;
  ExpectGradientsMatch(GetParam().fn, inputs, 1e-5);
}

TEST_P(OpSuite, GradientsAreTheSlopes) {
  if (!IsDifferentiable(GetParam(), *device_)) return;
  ExpectGradientsMatch(GetParam().fn, MakeInputs(*device_, GetParam().inputs), 1e-7);
}

TEST_P(OpSuite, ShorterTypesStayClose) {
  const std::vector<Tensor> exact =
      RunBothWays(GetParam(), MakeInputs(*device_, GetParam().inputs));
  for (const auto& [dtype, tolerance] : {std::pair(DType::kF32, 1e-5), {DType::kBF16, 2e-2}}) {
    const std::vector<Tensor> results =
        RunBothWays(GetParam(), MakeInputs(*device_, GetParam().inputs, dtype));
    ASSERT_EQ(results.size(), exact.size());
    for (size_t k = 0; k < exact.size(); ++k) {
      const std::vector<double> a = exact[k].ToVector(), b = results[k].ToVector();
      double scale = 1;
      for (const double value : a) scale = std::max(scale, std::abs(value));
      for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_NEAR(b[i], a[i], tolerance * scale) << DTypeName(dtype) << " result " << k;
      }
      if (k > 0) {
        EXPECT_EQ(results[k].dtype(), DType::kF32);
      }
    }
  }
}

// The same values with another stride in every dimension: padded, and the last two swapped.
Tensor Restrided(const Tensor& x) {
  Shape strides = x.shape();
  int64_t stride = 2;
  for (int i = 0; i < x.rank(); ++i) {
    strides[i] = stride;
    stride *= x.dim(i) + 1;
  }
  const Tensor memory = Tensor::Zeros(x.device(), {stride + 2}, x.dtype());
  const Tensor view = memory.AsStrided(x.shape(), strides, 1);
  view.CopyFrom(x);
  return view;
}

TEST_P(OpSuite, StridesDoNotMatter) {
  const Inputs inputs = MakeInputs(*device_, GetParam().inputs, DType::kF32);
  Inputs strided;
  for (const Tensor& x : inputs) strided.push_back(Restrided(x));
  const std::vector<Tensor> a = RunBothWays(GetParam(), inputs);
  const std::vector<Tensor> b = RunBothWays(GetParam(), strided);
  for (size_t k = 0; k < a.size(); ++k) {
    const std::vector<double> expected = a[k].ToVector(), values = b[k].ToVector();
    ASSERT_EQ(values.size(), expected.size());
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(values[i], expected[i], 2e-6 * (1 + std::abs(expected[i]))) << "result " << k;
    }
  }
}

TEST_P(OpSuite, ThreadsDoNotChangeBits) {
  const auto& specs = GetParam().large.empty() ? GetParam().inputs : GetParam().large;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::vector<Tensor> one = RunBothWays(GetParam(), MakeInputs(*device_, specs, dtype));
    for (const int num_threads : {2, 3}) {
      const auto device = testing::MakeTestDevice({.num_threads = num_threads});
      const std::vector<Tensor> many = RunBothWays(GetParam(), MakeInputs(*device, specs, dtype));
      for (size_t k = 0; k < one.size(); ++k) {
        EXPECT_EQ(one[k].ToVector(), many[k].ToVector())
            << "result " << k << " with " << num_threads << " threads, " << DTypeName(dtype);
      }
    }
  }
}

std::string CaseName(const ::testing::TestParamInfo<OpCase>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Elementwise, OpSuite, ::testing::ValuesIn(ElementwiseCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Reduction, OpSuite, ::testing::ValuesIn(ReductionCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Shape, OpSuite, ::testing::ValuesIn(ShapeCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Layer, OpSuite, ::testing::ValuesIn(LayerCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Loss, OpSuite, ::testing::ValuesIn(LossCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(TokenRuns, OpSuite, ::testing::ValuesIn(TokenRunCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Indexing, OpSuite, ::testing::ValuesIn(IndexingCases()), CaseName);

}  // namespace
}  // namespace trireme::testing
