// Short convolutions against their definition.
#include "core/ops/short_conv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/ops/ops.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

using ShortConvFn = Tensor (*)(const Tensor&, const Tensor&, const Tensor&,
                               absl::Span<const TokenRun>, const Tensor&);

struct Case {
  int64_t n, c, w;
  std::vector<TokenRun> runs;
  bool bias, history;
};

std::vector<Case> Cases() {
  return {{12, 3, 4, {{8, 12}, {0, 1}, {3, 3}, {1, 6}}, true, true},
          {200, 17, 4, {{0, 70}, {70, 72}, {73, 200}}, true, false},
          {70, 300, 3, {{0, 2}, {2, 69}}, false, true},
          {9, 2, 1, {{1, 9}}, true, true},
          {20, 5, 7, {{0, 3}, {3, 20}}, true, true},
          {0, 4, 4, {}, true, false},
          {5, 4, 2, {{2, 2}}, true, true}};
}

Inputs TensorsOf(Device& device, const Case& c, DType dtype, DType rounded) {
  const auto random = [&](const Shape& shape, uint64_t seed) {
    return RandomTensor(device, shape, seed, 1, rounded).CopyTo(dtype);
  };
  const int64_t p = static_cast<int64_t>(c.runs.size());
  return {random({c.n, c.c}, 1), random({c.c, c.w}, 2), c.bias ? random({c.c}, 3) : Tensor(),
          c.history ? random({p, c.w - 1, c.c}, 4) : Tensor()};
}

// The output, then every gradient. With `computed`, no input is a leaf.
std::vector<std::vector<double>> RunBothWays(ShortConvFn fn, const Case& c, Inputs x,
                                             bool computed) {
  Inputs leaves;
  for (Tensor& tensor : x) {
    if (!tensor.defined()) continue;
    leaves.push_back(tensor.Detach().set_requires_grad());
    tensor = computed ? Mul(leaves.back(), 1.0) : leaves.back();
  }
  const Tensor y = fn(x[0], x[1], x[2], c.runs, x[3]);
  std::vector<std::vector<double>> results = {y.ToVector()};
  // The definition of no rows is of no input.
  if (y.requires_grad()) {
    Sum(Mul(y, RandomTensor(y.device(), y.shape(), 9, 1, DType::kBF16).CopyTo(y.dtype())))
        .Backward();
  }
  for (const Tensor& leaf : leaves) {
    results.push_back(leaf.grad().defined() ? leaf.grad().ToVector()
                                            : std::vector<double>(leaf.numel()));
  }
  return results;
}

void ExpectNear(const std::vector<std::vector<double>>& got,
                const std::vector<std::vector<double>>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t k = 0; k < got.size(); ++k) {
    ASSERT_EQ(got[k].size(), want[k].size());
    double scale = 1;
    for (const double x : want[k]) scale = std::max(scale, std::abs(x));
    for (size_t i = 0; i < got[k].size(); ++i) {
      ASSERT_NEAR(got[k][i], want[k][i], tolerance * scale) << "result " << k << " element " << i;
    }
  }
}

TEST(ShortConvTest, EqualsItsDefinition) {
  const auto device = MakeTestDevice({.num_threads = 2});
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.n);
    for (const bool computed : {false, true}) {
      const auto run = [&](ShortConvFn fn, DType dtype, DType rounded) {
        return RunBothWays(fn, c, TensorsOf(*device, c, dtype, rounded), computed);
      };
      const auto want = run(ShortConvReference, DType::kF64, DType::kF64);
      ExpectNear(run(ShortConv, DType::kF64, DType::kF64), want, 1e-12);
      ExpectNear(run(ShortConv, DType::kF32, DType::kF64), want, 1e-5);
      ExpectNear(run(ShortConv, DType::kBF16, DType::kBF16),
                 run(ShortConvReference, DType::kF64, DType::kBF16), 1e-2);
    }
  }
}

TEST(ShortConvTest, NumericGradients) {
  const auto device = MakeTestDevice();
  const Case c = {8, 2, 3, {{0, 1}, {2, 7}}, true, true};
  ExpectGradientsMatch(
      [&](const Inputs& in) { return ShortConv(in[0], in[1], in[2], c.runs, in[3]); },
      TensorsOf(*device, c, DType::kF64, DType::kF64));
}

TEST(ShortConvTest, BitsDoNotDependOnThreads) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const Case& c : Cases()) {
      std::vector<std::vector<double>> want;
      for (const int threads : {1, 3}) {
        const auto device = MakeTestDevice({.num_threads = threads});
        const auto got = RunBothWays(ShortConv, c, TensorsOf(*device, c, dtype, dtype), false);
        if (threads == 1) want = got;
        ASSERT_EQ(got, want);
      }
    }
  }
}

// Rows beside one another in a wider projection, and channels apart.
TEST(ShortConvTest, StridedInputs) {
  const auto device = MakeTestDevice();
  const std::vector<TokenRun> runs = {{0, 20}};
  const Tensor weight = RandomTensor(*device, {6, 4}, 1), wide = RandomTensor(*device, {20, 13}, 2);
  for (const Tensor& x :
       {Slice(wide, 1, 3, 6), Transpose(RandomTensor(*device, {6, 20}, 3), 0, 1)}) {
    EXPECT_EQ(ShortConv(x, weight, Tensor(), runs).ToVector(),
              ShortConv(x.Contiguous(), weight, Tensor(), runs).ToVector());
  }
}

// Rows that a run does not have are its history: two calls equal one.
TEST(ShortConvTest, CarriesOverCalls) {
  const auto device = MakeTestDevice();
  const Tensor x = RandomTensor(*device, {20, 3}, 1), weight = RandomTensor(*device, {3, 4}, 2);
  const std::vector<double> whole = ShortConv(x, weight, Tensor(), {{0, 20}}).ToVector();
  const Tensor second = Slice(x, 0, 7, 13), before = Reshape(Slice(x, 0, 4, 3), {1, 3, 3});
  EXPECT_EQ(ShortConv(second, weight, Tensor(), {{0, 13}}, before).ToVector(),
            std::vector<double>(whole.begin() + 21, whole.end()));
}

}  // namespace
}  // namespace trireme::testing
