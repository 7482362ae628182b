// Products against three loops: every layout, type, tile edge and thread count.
#include "core/ops/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/autograd/backward.h"
#include "core/device/kernel.h"
#include "core/ops/cpu/avx512.h"
#include "core/ops/cpu/gemm_library.h"
#include "core/ops/ops.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::ExpectGradientsMatch;
using testing::Inputs;
using testing::RandomTensor;

Tensor TransposedView(const Tensor& x) {
  Shape shape = x.shape(), strides = x.strides();
  std::swap(shape[-1], shape[-2]);
  std::swap(strides[-1], strides[-2]);
  return x.AsStrided(shape, strides, 0);
}

// The same values behind a transposed memory layout, or with gaps between the rows.
Tensor Relaid(const Tensor& x, int layout) {
  if (layout == 0) return x;
  if (layout == 1) return TransposedView(TransposedView(x).Contiguous());
  const int64_t step = layout == 2 ? 1 : 2;  // 3: gaps between the elements of a row as well.
  Shape wide = x.shape();
  wide[-1] = wide[-1] * step + 3;
  const Tensor memory = Tensor::Full(x.device(), wide, x.dtype(), std::nan(""));
  Shape strides = memory.strides();
  strides[-1] = step;
  const Tensor view = memory.AsStrided(x.shape(), strides, 1);
  view.CopyFrom(x);
  return view;
}

std::vector<double> Product3Loops(const std::vector<double>& a, const std::vector<double>& b,
                                  int64_t m, int64_t n, int64_t k) {
  std::vector<double> c(m * n);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t l = 0; l < k; ++l) {
      for (int64_t j = 0; j < n; ++j) c[i * n + j] += a[i * k + l] * b[l * n + j];
    }
  }
  return c;
}

void Gemm(const Tensor& a, const Tensor& b, const Tensor& c, double alpha = 1, double beta = 0,
          const Tensor& bias = Tensor()) {
  GemmArgs args{a.view(), b.view(), c.view(), alpha, beta};
  if (bias.defined()) args.bias = bias.view();
  Launch(c.device(), &KernelTable::Gemm, args);
}

// Relative to sum |a||b|, which for unit normals is about k.
double Tolerance(DType in, DType out, int64_t k) {
  if (in == DType::kF64) return 1e-14 * (k + 1);
  const double sum = 1e-7 * (k + 1);
  return out == DType::kBF16 ? sum + 0.04 * std::sqrt(k + 1.0) : sum * 4;
}

struct Types {
  DType in, out;
};
constexpr Types kTypes[] = {{DType::kF64, DType::kF64},
                            {DType::kF32, DType::kF32},
                            {DType::kBF16, DType::kBF16},
                            {DType::kBF16, DType::kF32}};

TEST(GemmTest, ShapesTypesAndLayouts) {
  const auto device = testing::MakeTestDevice();
  const int64_t sizes[][3] = {{1, 1, 1}, {1, 5, 3}, {7, 1, 4}, {3, 4, 1},
                              {5, 7, 0}, {0, 3, 2}, {2, 0, 2}, {33, 65, 17}};
  for (const Types types : kTypes) {
    for (const auto& [m, n, k] : sizes) {
      const Tensor a = RandomTensor(*device, {m, k}, 1, 1, types.in);
      const Tensor b = RandomTensor(*device, {k, n}, 2, 1, types.in);
      const Tensor bias = RandomTensor(*device, {n}, 3, 1, types.in);
      const Tensor before = RandomTensor(*device, {m, n}, 4, 1, types.out);
      const std::vector<double> product = Product3Loops(a.ToVector(), b.ToVector(), m, n, k);
      const std::vector<double> bias_values = bias.ToVector(), c_values = before.ToVector();
      for (int layout = 0; layout < 4 * 4 * 2; ++layout) {
        const int a_layout = layout % 4, b_layout = layout / 4 % 4, c_layout = layout / 16;
        for (const int mode : {0, 1, 2, 3}) {
          const double alpha = mode == 2 ? 0.5 : 1, beta = mode % 2;
          const bool with_bias = mode >= 2;
          // With beta = 0 whatever c held must not matter, NaN neither.
          const Tensor c = Relaid(beta == 0 ? Tensor::Full(*device, {m, n}, types.out, std::nan(""))
                                            : before.CopyTo(types.out),
                                  c_layout);
          Gemm(Relaid(a, a_layout), Relaid(b, b_layout), c, alpha, beta,
               with_bias ? bias : Tensor());
          const std::vector<double> got = c.ToVector();
          for (int64_t i = 0; i < m * n; ++i) {
            const double want =
                alpha * product[i] + beta * c_values[i] + (with_bias ? bias_values[i % n] : 0);
            ASSERT_NEAR(got[i], want, Tolerance(types.in, types.out, k))
                << DTypeName(types.in) << " " << DTypeName(types.out) << " " << m << "x" << n << "x"
                << k << " layout " << layout << " mode " << mode << " element " << i;
          }
        }
      }
    }
  }
}

// Sizes around the tile edges, with a few elements checked.
TEST(GemmTest, TileEdges) {
  const auto device = testing::MakeTestDevice({.num_threads = 2});
  const int64_t k = 9;
  for (const Types types : kTypes) {
    for (const int64_t m : {255, 256, 512, 513, 1025}) {
      for (const int64_t n : {1, 1024, 1025, 1100}) {
        const Tensor a = RandomTensor(*device, {m, k}, 1, 1, types.in);
        const Tensor b = RandomTensor(*device, {n, k}, 2, 1, types.in);
        const Tensor c = Tensor::Full(*device, {m, n}, types.out, std::nan(""));
        Gemm(a, TransposedView(b), c);
        const std::vector<double> av = a.ToVector(), bv = b.ToVector(), cv = c.ToVector();
        double worst = 0;
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = i % 61; j < n; j += 61) {
            double want = 0;
            for (int64_t l = 0; l < k; ++l) want += av[i * k + l] * bv[j * k + l];
            const double error = std::abs(cv[i * n + j] - want);
            worst = error <= worst ? worst : error;  // NaN stays.
          }
        }
        EXPECT_LE(worst, Tolerance(types.in, types.out, k)) << m << " " << n;
      }
    }
  }
}

TEST(GemmTest, BitsDoNotDependOnThreads) {
  const int64_t m = 600, n = 200,
                k = 520;  // Three tiles; from k = 512 on, other tiles give other bits.
  const auto host = testing::MakeTestDevice();
  const std::vector<double> a_values = RandomTensor(*host, {k, m}, 1).ToVector();
  const std::vector<double> b_values = RandomTensor(*host, {k, n}, 2).ToVector();
  for (const Types types : kTypes) {
    std::vector<double> expected;
    for (const int threads : {1, 2, 3, 5}) {
      const auto device = testing::MakeTestDevice({.num_threads = threads});
      const Tensor a = Tensor::FromVector(*device, {k, m}, a_values, types.in);
      const Tensor b = Tensor::FromVector(*device, {k, n}, b_values, types.in);
      const Tensor c = Tensor::Zeros(*device, {m, n}, types.out);
      Gemm(TransposedView(a), b, c, 1, 1);
      const std::vector<double> got = c.ToVector();
      if (threads == 1) expected = got;
      ASSERT_EQ(got, expected) << threads << " threads, " << DTypeName(types.in);
    }
  }
}

// Sums of bf16 over many tokens have code of their own: edges of its panels, parts and blocks.
TEST(GemmTest, Bf16WeightGradients) {
  struct Size {
    int64_t m, n, k;
  };
  for (const Size& s :
       {Size{128, 128, 1024}, Size{131, 170, 1027}, Size{2060, 129, 1100}, Size{140, 2050, 1025}}) {
    std::vector<double> want[2];
    for (const int threads : {0, 1, 3}) {  // 0: the library.
      const auto device = MakeCpuDevice({.num_threads = std::max(1, threads)});
      if (threads == 0) device->State<RegisterTiles>() = RegisterTiles::None();
      const Tensor a = RandomTensor(*device, {s.k, s.m}, 1, 1, DType::kBF16);
      const Tensor b = RandomTensor(*device, {s.k, s.n}, 2, 1, DType::kBF16);
      // Gaps between the rows, which must stay as they are.
      const Tensor memory = Tensor::Full(*device, {s.m, s.n + 5}, DType::kF32, std::nan(""));
      const Tensor c = memory.AsStrided({s.m, s.n}, memory.strides(), 2);
      for (const int beta : {0, 1}) {
        Gemm(TransposedView(a), b, c, 1, beta);
        const std::vector<double> got = c.ToVector();
        if (threads == 0) want[beta] = got;
        for (size_t i = 0; i < got.size(); ++i) {
          ASSERT_NEAR(got[i], want[beta][i], 4e-7 * s.k) << s.m << " " << s.n << " " << s.k;
        }
        if (threads == 1) want[beta] = got;
        if (threads == 3) {
          ASSERT_EQ(got, want[beta]);
        }
      }
      const std::vector<double> all = memory.ToVector();
      for (int64_t i = 0; i < s.m; ++i) {
        for (const int64_t j : {int64_t{1}, s.n + 2}) {
          ASSERT_TRUE(std::isnan(all[i * (s.n + 5) + j])) << i << " " << j;
        }
      }
    }
  }
}

TEST(GemmTest, BatchesAndBroadcastBatches) {
  const auto device = testing::MakeTestDevice({.num_threads = 2});
  const Tensor a = RandomTensor(*device, {3, 1, 4, 5}, 1), b = RandomTensor(*device, {2, 5, 6}, 2);
  const Tensor c = MatMul(a, b);
  ASSERT_EQ(c.shape(), (Shape{3, 2, 4, 6}));
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 2; ++j) {
      const Tensor want =
          MatMul(a.AsStrided({4, 5}, {5, 1}, i * 20), b.AsStrided({5, 6}, {6, 1}, j * 30));
      EXPECT_EQ(c.AsStrided({4, 6}, {6, 1}, (i * 2 + j) * 24).ToVector(), want.ToVector());
    }
  }
}

TEST(GemmTest, Bf16WithoutPrimitivesIsConverted) {
  const auto device = testing::MakeTestDevice();
  GemmLibrary converting(false);
  const int64_t m = 37, n = 21, k = 50;
  for (const DType out : {DType::kBF16, DType::kF32}) {
    for (const bool transposed : {false, true}) {
      const Tensor a =
          RandomTensor(*device, transposed ? Shape{k, m} : Shape{m, k}, 1, 1, DType::kBF16);
      const Tensor b =
          RandomTensor(*device, transposed ? Shape{n, k} : Shape{k, n}, 2, 1, DType::kBF16);
      const Tensor c = RandomTensor(*device, {m, n}, 3, 1, out), want = c.CopyTo(out);
      Gemm(transposed ? TransposedView(a) : a, transposed ? TransposedView(b) : b, want, 1, 1);
      converting.Run({DType::kBF16,
                      out,
                      m,
                      n,
                      k,
                      {a.raw(), a.dim(1), transposed},
                      {b.raw(), b.dim(1), transposed},
                      c.raw(),
                      n,
                      1,
                      1},
                     *device);
      const std::vector<double> got = c.ToVector(), expected = want.ToVector();
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(got[i], expected[i], out == DType::kF32 ? 1e-4 : 0.02 * (1 + std::abs(got[i])));
      }
    }
  }
}

TEST(GemmTest, MorePrimitivesThanTheCacheHolds) {
  const auto device = testing::MakeTestDevice();
  const Tensor a = RandomTensor(*device, {300, 2}, 1, 1, DType::kBF16);
  const Tensor b = RandomTensor(*device, {2, 2}, 2, 1, DType::kBF16);
  const Tensor whole = Tensor::Zeros(*device, {300, 2}, DType::kF32);
  Gemm(a, b, whole);
  const std::vector<double> want = whole.ToVector();
  for (int64_t m = 1; m <= 300; m += 1) {
    const Tensor c = Tensor::Zeros(*device, {m, 2}, DType::kF32);
    Gemm(a.AsStrided({m, 2}, {2, 1}, 0), b, c);
    const std::vector<double> got = c.ToVector();
    for (int64_t i = 0; i < 2 * m; ++i) ASSERT_NEAR(got[i], want[i], 1e-6);
  }
}

TEST(GemmTest, OutOfMemoryIsAFailure) {
  const auto device = testing::MakeTestDevice({.memory_limit_bytes = 4 << 20});
  const Tensor a = Tensor::Zeros(*device, {400, 400}, DType::kF64);
  const Status status = CatchFailure([&] {
    MatMul(a, a);
    MatMul(MatMul(a, a), MatMul(a, a));
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST(MatMulTest, Gradients) {
  const auto device = testing::MakeTestDevice();
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      const auto fn = [=](const Inputs& in) { return MatMul(in[0], in[1], ta, tb); };
      ExpectGradientsMatch(fn, {RandomTensor(*device, ta ? Shape{3, 2} : Shape{2, 3}, 1),
                                RandomTensor(*device, tb ? Shape{4, 3} : Shape{3, 4}, 2)});
      // Batches that broadcast on either side, and a missing batch dimension.
      ExpectGradientsMatch(fn,
                           {RandomTensor(*device, ta ? Shape{2, 1, 3, 2} : Shape{2, 1, 2, 3}, 1),
                            RandomTensor(*device, tb ? Shape{3, 4, 3} : Shape{3, 3, 4}, 2)});
      ExpectGradientsMatch(fn, {RandomTensor(*device, ta ? Shape{3, 2} : Shape{2, 3}, 1),
                                RandomTensor(*device, tb ? Shape{5, 4, 3} : Shape{5, 3, 4}, 2)});
    }
  }
}

TEST(MatMulTest, GradientsOfEmptyProducts) {
  const auto device = testing::MakeTestDevice();
  Tensor a = RandomTensor(*device, {2, 0}, 1), b = RandomTensor(*device, {0, 3}, 2);
  a.set_requires_grad();
  b.set_requires_grad();
  const Tensor c = MatMul(a, b);
  EXPECT_EQ(c.ToVector(), std::vector<double>(6, 0.0));
  Sum(c).Backward();
  EXPECT_EQ(a.grad().shape(), (Shape{2, 0}));
  EXPECT_EQ(b.grad().shape(), (Shape{0, 3}));
}

TEST(LinearTest, GradientsWithAndWithoutSplitWeights) {
  const auto device = testing::MakeTestDevice();
  const Tensor x = RandomTensor(*device, {2, 3, 4}, 1), w = RandomTensor(*device, {5, 4}, 2);
  const Tensor bias = RandomTensor(*device, {5}, 3);
  ExpectGradientsMatch([](const Inputs& in) { return Linear(in[0], in[1], in[2]); }, {x, w, bias});
  ExpectGradientsMatch([](const Inputs& in) { return Linear(in[0], in[1]); }, {x, w});
  // A weight that is not a leaf.
  ExpectGradientsMatch([](const Inputs& in) { return Linear(in[0], Mul(in[1], 2.0), in[2]); },
                       {x, w, bias});
  ExpectGradientsMatch([](const Inputs& in) { return Linear(in[0], in[1]); },
                       {RandomTensor(*device, {4}, 4), w});
}

TEST(LinearTest, WeightGradientsAddUpInTheAccumulationType) {
  const auto device = testing::MakeTestDevice();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Tensor w = RandomTensor(*device, {3, 2}, 1, 1, dtype);
    w.set_requires_grad();
    const Tensor x = RandomTensor(*device, {4, 2}, 2, 1, dtype);
    Sum(Linear(x, w)).Backward();
    EXPECT_EQ(w.grad().dtype(), DType::kF32);
    const std::vector<double> once = w.grad().ToVector();
    Sum(Linear(x, w)).Backward();
    const std::vector<double> twice = w.grad().ToVector();
    for (size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(twice[i], 2 * once[i], 1e-6);
  }
}

TEST(LinearTest, StridedInputs) {
  const auto device = testing::MakeTestDevice();
  const Tensor x = RandomTensor(*device, {6, 10}, 1), w = RandomTensor(*device, {3, 4}, 2);
  const Tensor columns = Slice(x, 1, 2, 4);
  EXPECT_EQ(Linear(columns, w).ToVector(), Linear(columns.Contiguous(), w).ToVector());
  EXPECT_EQ(Linear(Tensor::Zeros(*device, {0, 4}, DType::kF64), w).shape(), (Shape{0, 3}));
  EXPECT_EQ(Linear(Tensor::Zeros(*device, {2, 5, 0}, DType::kF64),
                   Tensor::Zeros(*device, {3, 0}, DType::kF64))
                .ToVector(),
            std::vector<double>(30, 0.0));
}

}  // namespace
}  // namespace trireme
