// The kernels of a device against those of the CPU, at the sizes, strides and alignments that
// choose between code: 16 bytes at once or one element, one block or several, tensor cores or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "core/device/kernel.h"
#include "core/ops/attention.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/indexing.h"
#include "core/ops/init.h"
#include "core/ops/norm.h"
#include "core/ops/ops.h"
#include "core/ops/optimizer_kernels.h"
#include "core/ops/reduce.h"
#include "core/ops/softmax.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using Tensors = std::vector<Tensor>;

constexpr DType kFloating[] = {DType::kF64, DType::kF32, DType::kBF16};

class DeviceKernels : public ::testing::Test {
 protected:
  // Normal numbers, the same on every device. `offset` elements of other memory lie in front.
  Tensor Random(Device& device, const Shape& shape, DType dtype, uint64_t seed,
                int64_t offset = 0) {
    const Tensor source = testing::RandomTensor(*cpu_, shape, seed);
    const Tensor memory = Tensor::Zeros(device, {shape.numel() + offset}, dtype);
    const Tensor x = memory.AsStrided(shape, source.strides(), offset);
    x.CopyFrom(Tensor::FromVector(device, shape, source.ToVector(), DType::kF64));
    return x;
  }
  Tensor Indices(Device& device, const Shape& shape, int64_t limit, uint64_t seed,
                 DType dtype = DType::kI64) {
    std::vector<double> values = testing::RandomTensor(*cpu_, shape, seed).ToVector();
    for (double& x : values) x = std::fmod(std::floor(std::abs(x) * 1e6), limit);
    return Tensor::FromVector(device, shape, values, dtype);
  }

  // `fn` gives the same on both devices, relative to the largest number of each result.
  void ExpectSame(const std::string& what, DType dtype, const std::function<Tensors(Device&)>& fn) {
    const double tolerance = dtype == DType::kF64 ? 1e-12 : dtype == DType::kF32 ? 4e-6 : 1.0 / 64;
    const Tensors expected = fn(*cpu_), got = fn(*device_);
    ASSERT_EQ(got.size(), expected.size());
    for (size_t k = 0; k < got.size(); ++k) {
      const std::vector<double> want = expected[k].ToVector(), values = got[k].ToVector();
      ASSERT_EQ(values.size(), want.size());
      double scale = 1;
      for (const double x : want) {
        if (std::isfinite(x)) scale = std::max(scale, std::abs(x));
      }
      for (size_t i = 0; i < want.size(); ++i) {
        if (values[i] == want[i] || (std::isnan(values[i]) && std::isnan(want[i]))) continue;
        ASSERT_NEAR(values[i], want[i], tolerance * scale)
            << what << " " << DTypeName(dtype) << ": result " << k << " element " << i;
      }
    }
  }

  std::unique_ptr<CpuDevice> cpu_ = MakeCpuDevice();
  std::unique_ptr<Device> device_ = testing::MakeTestDevice();
};

TEST_F(DeviceKernels, ElementwiseAtEveryAlignment) {
  for (const DType dtype : kFloating) {
    for (const int64_t n : {1, 7, 8, 9, 64, 1003}) {
      for (const int64_t offset : {0, 1, 4}) {
        ExpectSame("elementwise", dtype, [&](Device& device) -> Tensors {
          const Tensor a = Random(device, {n}, dtype, 1, offset);
          const Tensor b = Random(device, {n}, dtype, 2, 2 * offset);
          const Tensor gelu = Gelu(a), sum = Add(a, b), swiglu = SwiGlu(a, b);
          const Tensor accumulated = a.CopyTo(AccumulationType(dtype));
          accumulated.Accumulate(b, 0.5);
          return {gelu, sum, swiglu, Where(Less(a, b), a, b), Maximum(a, b), accumulated};
        });
      }
    }
  }
}

TEST_F(DeviceKernels, ElementwiseOverStretchedAndTransposedOperands) {
  for (const DType dtype : kFloating) {
    for (const int64_t c : {5, 16, 64}) {
      ExpectSame("broadcast", dtype, [&](Device& device) -> Tensors {
        const Tensor x = Random(device, {6, 3, c}, dtype, 1);
        const Tensor row = Random(device, {c}, dtype, 2),
                     column = Random(device, {6, 1, 1}, dtype, 3);
        const Tensor turned = Transpose(Random(device, {c, 3, 6}, dtype, 4), 0, 2);
        const Tensor filled = Tensor::Zeros(device, {6, 3, c}, dtype);
        Slice(filled, 1, 1, 2).Fill(3);
        return {Add(x, row),    Mul(column, x),
                Sub(x, turned), Mul(row, column),
                Neg(turned),    Slice(x, 2, 1, c - 2).CopyTo(dtype),
                filled};
      });
    }
  }
}

TEST_F(DeviceKernels, CopiesBetweenAllTypes) {
  const DType all[] = {DType::kF64, DType::kF32, DType::kBF16, DType::kF16,
                       DType::kI64, DType::kI32, DType::kU8};
  for (const DType from : all) {
    for (const DType to : all) {
      ExpectSame(DTypeName(from), DType::kF64, [&](Device& device) -> Tensors {
        Tensor x = Random(device, {37}, DType::kF64, 1);
        // Small and positive, so that every type has them.
        x = Mul(Abs(x), IsFloating(from) && IsFloating(to) ? 1e3 : 30).CopyTo(from);
        return {x.CopyTo(to), Slice(x, 0, 1, 36).CopyTo(to)};
      });
    }
  }
}

TEST_F(DeviceKernels, Rows) {
  for (const DType dtype : kFloating) {
    for (const int64_t c : {1, 3, 40, 1000, 4100}) {
      const int64_t n = c > 1000 ? 2 : 5;
      ExpectSame("rows", dtype, [&](Device& device) -> Tensors {
        const DType acc = AccumulationType(dtype);
        const Tensor x = Random(device, {n, c}, dtype, 1), dy = Random(device, {n, c}, dtype, 2);
        const Tensor gain = Random(device, {c}, dtype, 3), bias = Random(device, {c}, dtype, 4);
        Tensors results = {Softmax(x), LogSoftmax(x)};
        const auto empty = [&](const Shape& shape, DType type) {
          results.push_back(Tensor::Zeros(device, shape, type));
          return results.back().view();
        };
        for (const bool log : {false, true}) {
          const Tensor y = log ? LogSoftmax(x) : Softmax(x);
          Launch(device, &KernelTable::SoftmaxBackward,
                 SoftmaxBackwardArgs{y.view(), dy.view(), empty({n, c}, dtype), log});
        }
        for (const bool centered : {false, true}) {
          const Tensor mean_memory = Tensor::Zeros(device, {n}, acc);
          const View mean = centered ? mean_memory.view() : View();
          const View rstd = empty({n}, acc);
          Launch(device, &KernelTable::Norm,
                 NormArgs{x.view(), gain.view(), centered ? bias.view() : View(),
                          empty({n, c}, dtype), mean, rstd, 1e-5});
          Launch(
              device, &KernelTable::NormBackward,
              NormBackwardArgs{x.view(), gain.view(), dy.view(), mean, rstd, empty({n, c}, dtype)});
          results.push_back(Random(device, {c}, acc, 5));
          Launch(device, &KernelTable::NormGainGrad,
                 NormGainGradArgs{x.view(), dy.view(), mean, rstd, results.back().view(), true});
        }
        return results;
      });
    }
  }
}

TEST_F(DeviceKernels, CrossEntropyWholeAndInParts) {
  for (const DType dtype : kFloating) {
    for (const int64_t c : {1, 5, 2048, 5001}) {
      for (const bool part : {false, true}) {
        ExpectSame("cross entropy", dtype, [&](Device& device) -> Tensors {
          const DType acc = AccumulationType(dtype);
          const int64_t n = 4, first = part ? c : 0, count = part ? 3 * c : c;
          const Tensor logits = Random(device, {n, c}, dtype, 1);
          const Tensor labels = Indices(device, {n}, count, 2, DType::kI32);
          labels.View1D(1, 1).Fill(-1);
          const Tensor losses = Tensor::Zeros(device, {n}, acc);
          const Tensor norms = Tensor::Zeros(device, {n, 2}, acc);
          const Tensor seed = Tensor::Full(device, {1}, acc, 0.25);
          Launch(device, &KernelTable::CrossEntropy,
                 CrossEntropyArgs{logits.view(), labels.view(), losses.view(), norms.view(), first,
                                  count});
          const Tensor shorter =
              Tensor::Zeros(device, {n, c}, dtype == DType::kF32 ? DType::kBF16 : dtype);
          CrossEntropyBackwardArgs args{logits.view(), labels.view(),  norms.view(),
                                        seed.view(),   shorter.view(), first};
          Launch(device, &KernelTable::CrossEntropyBackward, args);
          args.dlogits = logits.view();  // In place.
          args.seed = View();
          Launch(device, &KernelTable::CrossEntropyBackward, args);
          // What is shorter is compared by its own rounding elsewhere.
          if (dtype == DType::kF32) return {losses, norms, logits};
          return {losses, norms, logits, shorter};
        });
      }
    }
  }
}

TEST_F(DeviceKernels, SumsAndMaxima) {
  const Shape shapes[] = {{1, 20000, 1}, {3, 8200, 1}, {70, 3, 1},  {1, 700, 5},
                          {2, 130, 40},  {3, 0, 2},    {2, 65, 33}, {1, 1, 1}};
  for (const DType dtype : kFloating) {
    for (const Shape& shape : shapes) {
      ExpectSame("sums", dtype, [&](Device& device) -> Tensors {
        const DType acc = AccumulationType(dtype);
        const Tensor x = Random(device, shape, dtype, 1);
        const Shape reduced = {shape[0], shape[2]};
        const Tensor sum = Random(device, reduced, acc, 2),
                     same = Random(device, reduced, dtype, 3);
        Launch(device, &KernelTable::Sum, SumArgs{x.view(), sum.view(), 0.5, true});
        Launch(device, &KernelTable::Sum, SumArgs{x.view(), same.view()});
        Tensors results = {sum, same};
        if (shape[1] > 0) {
          if (shape[1] > 60) Slice(x, 1, 50, 9).Fill(NAN);
          results.push_back(Max(x, 1));
          results.push_back(ArgMax(x, 1));
        }
        const Tensor squares = Tensor::Zeros(device, {1}, DType::kF64);
        const Tensor values = Random(device, shape, dtype, 4);
        Launch(device, &KernelTable::SumOfSquares, SumOfSquaresArgs{values.view(), squares.view()});
        results.push_back(squares);
        return results;
      });
    }
  }
}

TEST_F(DeviceKernels, IndexingWithManyAndRepeatedIndices) {
  for (const DType dtype : kFloating) {
    for (const int64_t c : {3, 64, 130}) {
      ExpectSame("indexing", dtype, [&](Device& device) -> Tensors {
        const DType acc = AccumulationType(dtype);
        const int64_t n = 300, rows = 40;
        const Tensor ids = Indices(device, {n}, 60, 1), dy = Random(device, {n, c}, dtype, 2);
        const Tensor table = Random(device, {rows, c}, dtype, 3);
        const Tensor fresh = Tensor::Full(device, {rows, c}, acc, NAN);
        const Tensor added = Random(device, {rows, c}, acc, 4);
        const Tensor rows_of_part = Embedding(ids, table, {10, 60});
        for (const auto& [dtable, is_fresh] : {std::pair(fresh, true), {added, false}}) {
          Launch(device, &KernelTable::EmbeddingBackward,
                 EmbeddingBackwardArgs{ids.view(), dy.view(), dtable.view(), 10, is_fresh});
        }
        const Tensor index = Indices(device, {2, n, 3}, 9, 5);
        const Tensor src = Random(device, {2, n, 3}, dtype, 6);
        const Tensor wide = Random(device, {2, 9, 3}, dtype, 7);
        return {rows_of_part, fresh, added, Gather(wide, 1, index),
                ScatterAdd(wide, 1, index, src)};
      });
    }
  }
}

// More items than a launch takes, of sizes around a tile, aligned and not.
TEST_F(DeviceKernels, UpdatesOfManyItems) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    for (const DType working : {dtype, DType::kBF16}) {
      if (dtype == DType::kF64 && working == DType::kBF16) continue;
      ExpectSame("updates", dtype, [&](Device& device) -> Tensors {
        Tensors results;
        for (const bool adam : {true, false}) {
          std::vector<UpdateItem> items;
          for (int k = 0; k < 41; ++k) {
            const int64_t n = k == 0   ? 8197
                              : k == 1 ? 16384
                                       : k % 11,
                          offset = k % 3 == 0 ? 0 : k % 5;
            const auto make = [&](uint64_t seed, DType type) {
              const Tensor x = Random(device, {n}, type, 10 * k + seed, offset);
              results.push_back(seed == 4 ? Mul(x, x).CopyTo(type) : x);
              return results.back().view();
            };
            items.push_back({make(1, dtype),
                             make(2, dtype),
                             k % 4 == 3 ? View() : make(5, working),
                             {make(3, dtype), make(4, dtype)},
                             0.01 * (k + 1),
                             0.1});
          }
          const int64_t count = static_cast<int64_t>(items.size());
          if (adam) {
            Launch(device, &KernelTable::AdamW,
                   AdamWArgs{items.data(), count, 0.5, 0.9, 0.99, 1e-8, 3});
          } else {
            for (const double momentum : {0.0, 0.9}) {
              for (const int64_t step : {1, 2}) {
                Launch(device, &KernelTable::Sgd,
                       SgdArgs{items.data(), count, 0.5, momentum, 0.1, step == 2, step});
              }
            }
          }
        }
        return results;
      });
    }
  }
}

TEST_F(DeviceKernels, DropoutAndRotaryOfTokens) {
  for (const DType dtype : kFloating) {
    for (const int64_t c : {4, 18, 64, 600}) {
      ExpectSame("tokens", dtype, [&](Device& device) -> Tensors {
        const int64_t n = 9, h = 3;
        const Tensor x = Random(device, {n, c}, dtype, 1), dropped = x.CopyTo(dtype);
        const Tensor sample = Indices(device, {n}, 1 << 20, 2);
        const Tensor position = Indices(device, {n}, 200000, 3, DType::kI32);
        Launch(device, &KernelTable::Dropout,
               DropoutArgs{x.view(), sample.view(), position.view(), dropped.view(),
                           MakeRngKey(5, "dropout"), 1u << 30, 1.25});
        const Tensor heads = Slice(Random(device, {n, h + 1, c}, dtype, 4), 1, 1, h);
        return {dropped, Rotary(heads, position, 10000)};
      });
    }
  }
}

TEST_F(DeviceKernels, DrawnNumbersAreTheSame) {
  for (const DType dtype : kFloating) {
    ExpectSame("draws", dtype, [&](Device& device) -> Tensors {
      const Tensor box = Tensor::Empty(device, {5, 2, 7}, dtype, MemoryKind::kParameters, "box");
      DrawNormal(box, MakeRngKey(7, "box"), 0.3, {9, 4, 11}, {3, 2, 1});
      return {box};
    });
  }
}

// Widths on both sides of what a path takes, rows that no 16 bytes divide, strides between heads.
TEST_F(DeviceKernels, AttentionAtEveryWidth) {
  struct Widths {
    int64_t d, dv;
  };
  for (const DType dtype : kFloating) {
    for (const Widths w :
         {Widths{64, 64}, {128, 128}, {16, 72}, {33, 5}, {160, 200}, {256, 256}, {300, 20}}) {
      if (dtype != DType::kBF16 && w.d + w.dv > 100) continue;
      ExpectSame("attention " + std::to_string(w.d), dtype, [&](Device& device) -> Tensors {
        const int64_t n = 70, m = 75, h = 4, g = 2;
        const DType acc = AccumulationType(dtype);
        const auto heads = [&](int64_t tokens, int64_t count, int64_t width, uint64_t seed) {
          return Slice(Random(device, {tokens, count + 1, width}, dtype, seed), 1, 0, count);
        };
        const Tensor q = heads(n, h, w.d, 1), k = heads(m, g, w.d, 2), v = heads(m, g, w.dv, 3);
        const Tensor dout = heads(n, h, w.dv, 4);
        std::vector<int32_t> begins, ends;
        for (int32_t i = 0; i < n; ++i) {
          begins.push_back(i % 7 == 0 ? i : std::max(0, i - 66));
          ends.push_back(i % 13 == 5 ? begins.back() : i + 3);
        }
        const Tensor begin = Tensor::FromHost<int32_t>(device, {n}, begins);
        const Tensor end = Tensor::FromHost<int32_t>(device, {n}, ends);
        const double scale = 1 / std::sqrt(static_cast<double>(w.d));
        const Tensor out = Tensor::Zeros(device, {n, h, w.dv}, dtype);
        const Tensor wide = Tensor::Zeros(device, {n, h, w.dv}, acc);
        const Tensor lse = Tensor::Zeros(device, {n, h}, acc);
        const Tensor delta = Tensor::Zeros(device, {n, h}, acc);
        AttentionArgs args{q.view(),   k.view(),    v.view(), begin.view(),
                           end.view(), wide.view(), View(),   scale};
        Launch(device, &KernelTable::Attention, args);
        args.out = out.view();
        args.lse = lse.view();
        Launch(device, &KernelTable::Attention, args);
        Launch(device, &KernelTable::AttentionDelta,
               AttentionDeltaArgs{out.view(), dout.view(), delta.view(), scale});
        const Tensor dq = Tensor::Full(device, {n, h, w.d}, dtype, NAN);
        const Tensor dk = Tensor::Full(device, {m, g, w.d}, dtype, NAN);
        const Tensor dv = Tensor::Full(device, {m, g, w.dv}, dtype, NAN);
        AttentionBackwardArgs backward{q.view(),   k.view(),   v.view(),     begin.view(),
                                       end.view(), lse.view(), delta.view(), dout.view(),
                                       dq.view(),  dk.view(),  dv.view(),    scale};
        Launch(device, &KernelTable::AttentionBackward, backward);
        Tensors results = {out, wide, lse, dq, dk, dv};
        if (dtype == DType::kBF16) {
          const Tensor more_dq = Random(device, {n, h, w.d}, acc, 5);
          const Tensor more_dk = Random(device, {m, g, w.d}, acc, 6);
          const Tensor more_dv = Random(device, {m, g, w.dv}, acc, 7);
          backward.dq = more_dq.view();
          backward.dk = more_dk.view();
          backward.dv = more_dv.view();
          backward.accumulate = true;
          Launch(device, &KernelTable::AttentionBackward, backward);
          results.insert(results.end(), {more_dq, more_dk, more_dv});
        }
        return results;
      });
    }
  }
}

// Wrong data is named when somebody waits for it; what comes after works.
TEST_F(DeviceKernels, DataOutOfRangeIsReported) {
  const auto expect = [&](const char* text, const std::function<void()>& fn) {
    const Status status = CatchFailure([&] {
      fn();
      ThrowIfError(device_->Synchronize());
    });
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
    EXPECT_NE(status.ToString().find(text), std::string::npos) << status;
    EXPECT_TRUE(device_->Synchronize().ok());
  };
  const auto numbers = [&](const Shape& shape) {
    return Tensor::Full(*device_, shape, DType::kF32, 1);
  };
  const auto ids = [&](const std::vector<int32_t>& values) {
    return Tensor::FromHost<int32_t>(*device_, {static_cast<int64_t>(values.size())}, values);
  };
  const Tensor index = Tensor::FromVector(*device_, {2, 1}, {0, 3}, DType::kI64);
  expect("5", [&] { Embedding(ids({0, 5}), numbers({5, 3})); });
  expect("-2", [&] { Embedding(ids({-2, 1}), numbers({5, 3})); });
  expect("3", [&] { Gather(numbers({2, 3}), 1, index); });
  expect("3", [&] { ScatterAdd(numbers({2, 3}), 1, index, numbers({2, 1})); });
  expect("label 7", [&] { CrossEntropy(numbers({2, 5}), ids({0, 7})); });
  expect("label -2", [&] { CrossEntropy(numbers({2, 5}), ids({-2, 0})); });
  EXPECT_EQ(Sum(numbers({3})).Item(), 3);
}

TEST_F(DeviceKernels, NoneThatEveryModelUsesIsMissing) {
  EXPECT_TRUE(MissingKernels(device_->kernels(), {}).empty());
}

}  // namespace
}  // namespace trireme
