#include "parallel/sequence/partial_attention.h"

#include <gtest/gtest.h>

#include "core/ops/devices.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::RandomTensor;

// Blocks that no query sees are not touched at all.
TEST(PartialAttentionTest, NothingIsComputedForUnseenKeys) {
  const auto device = MakeCpuDevice();
  TokenLayout layout;
  layout.segments = {{0, 4, 4}};
  layout.documents = {{0, 0, 12}};
  EXPECT_TRUE(CausalKeyRanges(*device, layout, {{0, 8, 4}}, 0).none);
  EXPECT_TRUE(CausalKeyRanges(*device, layout, {{0, 0, 2}}, 3).none);
  EXPECT_FALSE(CausalKeyRanges(*device, layout, {{0, 0, 3}}, 3).none);

  KeyRanges none;
  none.none = true;
  const Tensor q = RandomTensor(*device, {4, 2, 3}, 1, 1, DType::kBF16);
  PartialAttention attention(q, 5, 0.5);
  attention.Add(KvBlock(), none);
  const Tensor y = attention.Output();
  EXPECT_EQ(y.dtype(), DType::kBF16);
  EXPECT_EQ(y.ToVector(), std::vector<double>(4 * 2 * 5, 0));
  EXPECT_EQ(attention.lse().dtype(), DType::kF32);
  PartialAttentionBackward backward(q, y, attention.lse(), y, 0.5);
  backward.Add(KvBlock(), none, KvBlock());
  EXPECT_EQ(backward.dq().ToVector(), std::vector<double>(4 * 2 * 3, 0));
}

// Rounding every partial output to bf16 would be seen: more parts must not be worse than one.
TEST(PartialAttentionTest, MorePartsRoundNoMore) {
  const auto device = MakeCpuDevice();
  constexpr int64_t kTokens = 96;
  const auto input = [&](uint64_t seed, DType dtype) {
    return RandomTensor(*device, {kTokens, 2, 8}, seed, 1, DType::kBF16).CopyTo(dtype);
  };
  const auto error_of = [&](int64_t part) {
    const auto run = [&](DType dtype, int64_t size) {
      const Tensor k = input(2, dtype), v = input(3, dtype);
      PartialAttention attention(input(1, dtype), 8, 0.4);
      for (int64_t first = 0; first < kTokens; first += size) {
        TokenLayout layout;
        layout.segments = layout.documents = {{0, 0, kTokens}};
        attention.Add(PackKv(Slice(k, 0, first, size), Slice(v, 0, first, size)),
                      CausalKeyRanges(*device, layout, {{0, first, size}}, 0));
      }
      return attention.Output().ToVector();
    };
    const std::vector<double> exact = run(DType::kF64, kTokens), got = run(DType::kBF16, part);
    double sum = 0;
    for (size_t i = 0; i < got.size(); ++i) sum += (got[i] - exact[i]) * (got[i] - exact[i]);
    return sum;
  };
  const double whole = error_of(kTokens);
  EXPECT_GT(whole, 0);
  for (const int64_t part : {1, 3, 16}) EXPECT_LT(error_of(part), 1.2 * whole);
}

}  // namespace
}  // namespace trireme
