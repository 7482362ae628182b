// Blocked attention against its definition in plain ops.
#include "core/ops/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/autograd/backward.h"
#include "core/device/kernel.h"
#include "core/ops/cpu/avx512.h"
#include "core/ops/ops.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::ExpectGradientsMatch;
using testing::Inputs;
using testing::RandomTensor;

struct Case {
  const char* name;
  int64_t n, m, h, g, d, dv;
  std::vector<int32_t> begin, end;
};

// Ranges of packed documents, causal, with a window (0: none).
Case Packed(const char* name, const std::vector<int64_t>& documents, int64_t window, int64_t h,
            int64_t g, int64_t d, int64_t dv) {
  Case c{name, 0, 0, h, g, d, dv, {}, {}};
  for (int64_t length : documents) {
    for (int64_t i = 0; i < length; ++i) {
      const int64_t first = window > 0 ? std::max<int64_t>(0, i + 1 - window) : 0;
      c.begin.push_back(c.n + first);
      c.end.push_back(c.n + i + 1);
    }
    c.n += length;
  }
  c.m = c.n;
  return c;
}

Case Full(const char* name, int64_t n, int64_t m, int64_t h, int64_t g, int64_t d, int64_t dv) {
  return {name, n, m, h, g, d, dv, std::vector<int32_t>(n, 0), std::vector<int32_t>(n, m)};
}

// Any ranges, some empty, some reversed, some past the end.
Case Scattered(const char* name, int64_t n, int64_t m, int64_t h, int64_t g) {
  Case c{name, n, m, h, g, 8, 8, {}, {}};
  const RngKey key = MakeRngKey(9, "ranges");
  for (int64_t i = 0; i < n; ++i) {
    const RngBlock draw = Philox(key, i);
    c.begin.push_back(static_cast<int32_t>(draw[0] % (m + 1)));
    c.end.push_back(draw[2] % 3 == 0 ? c.begin[i] : static_cast<int32_t>(draw[1] % (m + 5)));
  }
  return c;
}

std::vector<Case> Cases() {
  return {Packed("one_token", {1}, 0, 2, 1, 4, 4),
          Packed("one_document", {150}, 0, 2, 2, 8, 8),
          Packed("ragged_documents", {1, 130, 7, 128, 40}, 0, 3, 3, 5, 7),
          Packed("window", {200, 31, 90}, 37, 2, 1, 12, 12),
          Packed("window_of_one", {40}, 1, 2, 2, 4, 4),
          Packed("grouped", {170, 60}, 0, 6, 2, 8, 4),
          Packed("one_kv_head", {100}, 0, 3, 1, 9, 9),
          Packed("wide_heads", {140, 60}, 0, 2, 1, 70, 45),
          Full("cross", 20, 300, 2, 2, 6, 6),
          Full("more_queries_than_keys", 270, 3, 4, 2, 3, 2),
          Full("no_keys", 5, 0, 2, 2, 4, 4),
          Full("no_queries", 0, 5, 2, 2, 4, 4),
          Scattered("scattered", 300, 280, 2, 1),
          Scattered("scattered_many_heads", 9, 40, 260, 2)};
}

KeyRanges RangesOf(Device& device, const Case& c) {
  return {Tensor::FromHost<int32_t>(device, {c.n}, c.begin),
          Tensor::FromHost<int32_t>(device, {c.n}, c.end)};
}

struct Result {
  std::vector<double> out, dq, dk, dv;
};

class F64Sink : public GradientSink {
 public:
  Slot Open(const Tensor& leaf) override {
    Tensor& grad = leaf.impl()->grad;
    const bool fresh = !grad.defined();
    if (fresh) grad = Tensor::Zeros(leaf.device(), leaf.shape(), AccumulationType(leaf.dtype()));
    return {grad, fresh};
  }
};

using AttentionFn = Tensor (*)(const Tensor&, const Tensor&, const Tensor&, const KeyRanges&,
                               double);

// Inputs are rounded to `rounded` first, so that two types see the same numbers.
Result RunCase(Device& device, const Case& c, AttentionFn fn, DType dtype, DType rounded) {
  const auto input = [&](int64_t tokens, int64_t heads, int64_t width, uint64_t seed) {
    return RandomTensor(device, {tokens, heads, width}, seed, 1, rounded).CopyTo(dtype);
  };
  Tensor q = input(c.n, c.h, c.d, 1), k = input(c.m, c.g, c.d, 2), v = input(c.m, c.g, c.dv, 3);
  for (Tensor* x : {&q, &k, &v}) x->set_requires_grad();
  const Tensor out = fn(q, k, v, RangesOf(device, c), 1 / std::sqrt(static_cast<double>(c.d)));
  F64Sink sink;
  Backward({out}, {input(c.n, c.h, c.dv, 4)}, sink);
  return {out.ToVector(), q.grad().ToVector(), k.grad().ToVector(), v.grad().ToVector()};
}

void ExpectNear(const Result& got, const Result& want, double tolerance, const std::string& what) {
  const auto compare = [&](const std::vector<double>& a, const std::vector<double>& b,
                           const char* name) {
    ASSERT_EQ(a.size(), b.size());
    double scale = 1;
    for (double x : b) scale = std::max(scale, std::abs(x));
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_NEAR(a[i], b[i], tolerance * scale) << what << ": " << name << " element " << i;
    }
  };
  compare(got.out, want.out, "out");
  compare(got.dq, want.dq, "dq");
  compare(got.dk, want.dk, "dk");
  compare(got.dv, want.dv, "dv");
}

// By the code of this processor, and by that of processors without AVX-512.
void ExpectEqualsItsDefinition(bool register_tiles) {
  const auto device = testing::MakeTestDevice({.num_threads = 2});
  if (!register_tiles) AsCpu(*device).State<RegisterTiles>() = RegisterTiles::None();
  for (const Case& c : Cases()) {
    const Result want = RunCase(*device, c, AttentionReference, DType::kF64, DType::kF64);
    ExpectNear(RunCase(*device, c, Attention, DType::kF64, DType::kF64), want, 1e-10, c.name);
    ExpectNear(RunCase(*device, c, Attention, DType::kF32, DType::kF64), want, 2e-6, c.name);
    const Result rounded = RunCase(*device, c, AttentionReference, DType::kF64, DType::kBF16);
    ExpectNear(RunCase(*device, c, Attention, DType::kBF16, DType::kBF16), rounded, 2e-2, c.name);
  }
}

TEST(AttentionTest, EqualsItsDefinition) { ExpectEqualsItsDefinition(true); }
TEST(AttentionTest, EqualsItsDefinitionWithoutRegisterTiles) { ExpectEqualsItsDefinition(false); }

TEST(AttentionTest, BitsDoNotDependOnThreads) {
  for (const Case& c :
       {Packed("", {200, 31, 190}, 0, 4, 2, 16, 16), Scattered("", 300, 280, 2, 1)}) {
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      Result want;
      for (const int threads : {1, 2, 3, 5}) {
        const auto device = testing::MakeTestDevice({.num_threads = threads});
        const Result got = RunCase(*device, c, Attention, dtype, dtype);
        if (threads == 1) want = got;
        ASSERT_EQ(got.out, want.out);
        ASSERT_EQ(got.dq, want.dq);
        ASSERT_EQ(got.dk, want.dk);
        ASSERT_EQ(got.dv, want.dv);
      }
    }
  }
}

TEST(AttentionTest, NumericGradients) {
  const auto device = testing::MakeTestDevice();
  const Case c = Packed("", {4, 1, 3}, 3, 2, 1, 2, 2);
  const KeyRanges ranges = RangesOf(*device, c);
  for (AttentionFn fn : {AttentionFn(Attention), AttentionFn(AttentionReference)}) {
    ExpectGradientsMatch([&](const Inputs& in) { return fn(in[0], in[1], in[2], ranges, 0.7); },
                         {RandomTensor(*device, {8, 2, 2}, 1), RandomTensor(*device, {8, 1, 2}, 2),
                          RandomTensor(*device, {8, 1, 2}, 3)});
  }
}

TEST(AttentionTest, QueriesWithoutKeysGiveZeros) {
  const auto device = testing::MakeTestDevice();
  Case c = Full("", 3, 4, 2, 1, 4, 4);
  c.begin[1] = c.end[1] = 2;
  const Result got = RunCase(*device, c, Attention, DType::kF32, DType::kF32);
  for (int i = 8; i < 16; ++i) {
    EXPECT_EQ(got.out[i], 0);
    EXPECT_EQ(got.dq[i], 0);
  }
  EXPECT_NE(got.out[0], 0);
}

// What one projection holds side by side, read by strides.
TEST(AttentionTest, StridedInputs) {
  const auto device = testing::MakeTestDevice();
  const Case c = Packed("", {140, 9}, 0, 2, 2, 8, 8);
  const Tensor qkv = RandomTensor(*device, {c.n, 6, 8}, 1);
  const Tensor q = Slice(qkv, 1, 0, 2), k = Slice(qkv, 1, 2, 2), v = Slice(qkv, 1, 4, 2);
  const KeyRanges ranges = RangesOf(*device, c);
  EXPECT_EQ(Attention(q, k, v, ranges, 0.3).ToVector(),
            Attention(q.Contiguous(), k.Contiguous(), v.Contiguous(), ranges, 0.3).ToVector());
  // Heads outermost, and a stride along the width.
  const Tensor by_head = RandomTensor(*device, {2, c.n, 8}, 2);
  const Tensor by_width = RandomTensor(*device, {c.n, 8, 2}, 3);
  const Tensor a = Transpose(by_head, 0, 1), b = Transpose(by_width, 1, 2);
  EXPECT_EQ(Attention(a, b, a, ranges, 0.3).ToVector(),
            Attention(a.Contiguous(), b.Contiguous(), a.Contiguous(), ranges, 0.3).ToVector());
}

TEST(AttentionTest, LargeScoresDoNotOverflow) {
  const auto device = testing::MakeTestDevice();
  const Case c = Packed("", {160}, 0, 1, 1, 4, 4);
  const Tensor q = RandomTensor(*device, {160, 1, 4}, 1, 100, DType::kF32);
  const Tensor v = RandomTensor(*device, {160, 1, 4}, 2, 1, DType::kF32);
  for (const double scale : {1.0, -1.0}) {
    const std::vector<double> got = Attention(q, q, v, RangesOf(*device, c), scale).ToVector();
    const std::vector<double> want =
        AttentionReference(q, q, v, RangesOf(*device, c), scale).ToVector();
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-4);
  }
}

TEST(AttentionTest, MemoryIsLinearInLength) {
  const auto peak = [](int64_t n) {
    const auto device = testing::MakeTestDevice();
    const Case c = Packed("", {n}, 0, 2, 1, 16, 16);
    Tensor q = Tensor::Zeros(*device, {n, 2, 16}, DType::kF32);
    Tensor k = Tensor::Zeros(*device, {n, 1, 16}, DType::kF32);
    q.set_requires_grad();
    k.set_requires_grad();
    const KeyRanges ranges = RangesOf(*device, c);
    device->ResetPeaks();
    const int64_t before = device->stats().current_total_bytes;
    Sum(Attention(q, k, k, ranges, 0.25)).Backward();
    return device->stats().peak_total_bytes - before;
  };
  const int64_t n = testing::OnCpu() ? 1024 : 320;
  const int64_t one = peak(n), two = peak(2 * n), four = peak(4 * n);
  EXPECT_LE(four - two, 2 * (two - one) + 4096);
  EXPECT_LT(four, 16 * n * n);  // Less than a byte a pair.
}

// Keys in parts, as another rank's are: the result over all of them, and every gradient.
TEST(AttentionTest, KeysMayComeInParts) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const auto device = testing::MakeTestDevice({.num_threads = 2});
    const Case c = Scattered("", 300, 280, 4, 2);
    const Result want = RunCase(*device, c, Attention, dtype, dtype);
    const DType acc = AccumulationType(dtype);
    const auto input = [&](int64_t tokens, int64_t heads, uint64_t seed) {
      return RandomTensor(*device, {tokens, heads, 8}, seed, 1, dtype);
    };
    const Tensor q = input(c.n, c.h, 1), k = input(c.m, c.g, 2), v = input(c.m, c.g, 3);
    const Tensor dout = input(c.n, c.h, 4);
    const double scale = 1 / std::sqrt(8.0);
    const Tensor out = Tensor::Zeros(*device, q.shape(), acc);
    const Tensor lse = Tensor::Full(*device, {c.n, c.h}, acc, -INFINITY);
    const Tensor delta = Tensor::Empty(*device, lse.shape(), acc);
    const Tensor dq = Tensor::Zeros(*device, q.shape(), acc);
    const Tensor dk = Tensor::Zeros(*device, k.shape(), acc);
    const Tensor dv = Tensor::Zeros(*device, v.shape(), acc);
    const auto for_each_part = [&](const auto& fn) {
      const std::vector<int64_t> cuts = {0, 7, 7, 150, 280};
      for (size_t part = 0; part + 1 < cuts.size(); ++part) {
        const int64_t first = cuts[part], size = cuts[part + 1] - first;
        std::vector<int32_t> begin, end;
        for (int64_t i = 0; i < c.n; ++i) {
          begin.push_back(std::clamp<int64_t>(c.begin[i] - first, 0, size));
          end.push_back(std::clamp<int64_t>(c.end[i] - first, 0, size));
        }
        fn(KeyRanges{Tensor::FromHost<int32_t>(*device, {c.n}, begin),
                     Tensor::FromHost<int32_t>(*device, {c.n}, end)},
           [&](const Tensor& x) { return Slice(x, 0, first, size).view(); });
      }
    };
    for_each_part([&](const KeyRanges& ranges, const auto& part) {
      Launch(*device, &KernelTable::Attention,
             AttentionArgs{q.view(), part(k), part(v), ranges.begin.view(), ranges.end.view(),
                           out.view(), lse.view(), scale, /*resume=*/true});
    });
    const Tensor rounded = out.CopyTo(dtype);
    Launch(*device, &KernelTable::AttentionDelta,
           AttentionDeltaArgs{rounded.view(), dout.view(), delta.view(), scale});
    for_each_part([&](const KeyRanges& ranges, const auto& part) {
      Launch(*device, &KernelTable::AttentionBackward,
             AttentionBackwardArgs{q.view(), part(k), part(v), ranges.begin.view(),
                                   ranges.end.view(), lse.view(), delta.view(), dout.view(),
                                   dq.view(), part(dk), part(dv), scale, /*accumulate=*/true});
    });
    const double tolerance = dtype == DType::kF64 ? 1e-13 : dtype == DType::kF32 ? 2e-6 : 2e-2;
    ExpectNear({out.ToVector(), dq.ToVector(), dk.ToVector(), dv.ToVector()}, want, tolerance,
               DTypeName(dtype));
  }
}

TEST(CausalKeyRangesTest, DocumentsAndWindows) {
  const auto device = testing::MakeTestDevice();
  TokenLayout layout;
  layout.segments = {{3, 0, 5}, {9, 4, 1}};
  layout.documents = {{3, 0, 3}, {3, 3, 4}, {9, 0, 8}};
  const KeyRanges all = CausalKeyRanges(*device, layout);
  EXPECT_EQ(all.begin.ToVector(), (std::vector<double>{0, 0, 0, 3, 3, 5}));
  EXPECT_EQ(all.end.ToVector(), (std::vector<double>{1, 2, 3, 4, 5, 6}));
  EXPECT_FALSE(all.none);
  EXPECT_EQ(CausalKeyRanges(*device, layout, 2).begin.ToVector(),
            (std::vector<double>{0, 0, 1, 3, 3, 5}));
  EXPECT_EQ(CausalKeyRanges(*device, layout, 1).begin.ToVector(),
            (std::vector<double>{0, 1, 2, 3, 4, 5}));
}

// Against the definition: a key is in the range exactly when it may be seen.
TEST(CausalKeyRangesTest, KeysOfAnotherCut) {
  const auto device = testing::MakeTestDevice();
  TokenLayout layout;
  layout.segments = {{3, 1, 2}, {3, 7, 3}, {9, 5, 2}, {4, 0, 1}};
  layout.documents = {{3, 0, 4}, {4, 0, 1}, {3, 4, 7}, {9, 0, 2}, {9, 2, 7}};
  const std::vector<Segment> keys = {{9, 2, 2}, {9, 4, 0}, {9, 6, 3},
                                     {3, 0, 1}, {3, 3, 6}, {7, 0, 2}};
  const auto document_of = [&](const Segment& segment, int64_t position) {
    for (const Segment& document : layout.documents) {
      if (document.sample == segment.sample && document.begin <= position &&
          position < document.begin + document.length) {
        return &document;
      }
    }
    return static_cast<const Segment*>(nullptr);
  };
  for (const int64_t window : {0, 1, 2, 3, 4, 100}) {
    const KeyRanges ranges = CausalKeyRanges(*device, layout, keys, window);
    EXPECT_FALSE(ranges.none);
    const std::vector<double> begin = ranges.begin.ToVector(), end = ranges.end.ToVector();
    size_t i = 0;
    for (const Segment& mine : layout.segments) {
      for (int64_t p = mine.begin; p < mine.begin + mine.length; ++p, ++i) {
        int64_t key = 0;
        for (const Segment& theirs : keys) {
          for (int64_t at = theirs.begin; at < theirs.begin + theirs.length; ++at, ++key) {
            const bool sees = mine.sample == theirs.sample && at <= p &&
                              document_of(mine, p) == document_of(theirs, at) &&
                              (window == 0 || at > p - window);
            EXPECT_EQ(begin[i] <= key && key < end[i], sees)
                << "window " << window << " query " << i << " key " << key;
          }
        }
      }
    }
  }
  EXPECT_TRUE(CausalKeyRanges(*device, layout, {{3, 10, 5}, {9, 7, 2}}, 0).none);
  EXPECT_TRUE(CausalKeyRanges(*device, layout, {}, 0).none);
}

TEST(CausalKeyRangesDeathTest, WhatWouldBeWrong) {
  const auto device = testing::MakeTestDevice();
  TokenLayout layout;
  layout.segments = {{3, 0, 2}};
  layout.documents = {{3, 0, 2}};
  EXPECT_DEATH(CausalKeyRanges(*device, layout, {{3, 0, 1}, {4, 0, 1}, {3, 1, 1}}, 0),
               "not neighbours");
  EXPECT_DEATH(CausalKeyRanges(*device, layout, {{3, 1, 1}, {3, 0, 1}}, 0), "not neighbours");
  layout.documents = {{3, 0, 1}, {4, 1, 1}};
  EXPECT_DEATH(CausalKeyRanges(*device, layout), "tokens of sample 3 from 0 in documents");
}

}  // namespace
}  // namespace trireme
