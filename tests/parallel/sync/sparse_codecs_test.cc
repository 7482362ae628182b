// top_k against a sort, rand_k against its distribution.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "parallel/sync/magnitude_threshold.h"
#include "tests/parallel/sync/codec_case.h"

namespace trireme {
namespace {

template <typename T>
class TopKTest : public testing::Test {};
using ValueTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(TopKTest, ValueTypes);

// By a stable sort.
template <typename T>
std::vector<T> TopKByDefinition(const std::vector<T>& v, int64_t k) {
  std::vector<int64_t> order(v.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return Magnitude(v[a]) > Magnitude(v[b]); });
  std::vector<T> kept(v.size(), 0);
  for (int64_t i = 0; i < k; ++i) kept[order[i]] = v[order[i]];
  return kept;
}

template <typename T>
void ExpectTopK(const std::vector<T>& v, int64_t k) {
  const int64_t n = static_cast<int64_t>(v.size());
  const auto codec = CodecOrDie("top_k", {{"k", absl::StrCat(k)}, {"block", "0"}});
  const auto back = ThereAndBack(*codec, {n}, v);
  const auto expected = TopKByDefinition(v, k);
  for (int64_t i = 0; i < n; ++i) {
    ASSERT_EQ(Magnitude(back[i]), Magnitude(expected[i])) << "n " << n << " k " << k << " i " << i;
    ASSERT_EQ(std::signbit(back[i]), std::signbit(expected[i]));
  }
}

TYPED_TEST(TopKTest, IsWhatASortGives) {
  for (const int64_t n : {1, 2, 63, 64, 65, 255, 256, 257, 1000, 4096, 70000}) {
    for (const int64_t k : {int64_t{1}, int64_t{2}, n / 100, n / 10, n / 2, n - 1, n}) {
      if (k < 1 || k > n) continue;
      auto v = NormalVector<TypeParam>(n, 1);
      ExpectTopK(v, k);
      for (TypeParam& x : v) x = std::round(x * 2);  // Ties in plenty.
      ExpectTopK(v, k);
    }
  }
}

TYPED_TEST(TopKTest, IsWhatASortGivesOnAwkwardValues) {
  using Limits = std::numeric_limits<TypeParam>;
  const int64_t n = 5000;
  for (const int64_t k : {1, 50, 4999}) {
    ExpectTopK(std::vector<TypeParam>(n, 0), k);
    ExpectTopK(std::vector<TypeParam>(n, -3), k);
    ExpectTopK(NormalVector<TypeParam>(n, 1, Limits::denorm_min() * 5), k);
    std::vector<TypeParam> v(n);
    // Rising, falling, over the whole range, and the last bits alone.
    for (int64_t i = 0; i < n; ++i) v[i] = static_cast<TypeParam>(i);
    ExpectTopK(v, k);
    std::reverse(v.begin(), v.end());
    ExpectTopK(v, k);
    for (int64_t i = 0; i < n; ++i) {
      v[i] = std::ldexp(TypeParam(1 + i % 7), static_cast<int>(i * 37 % 240) - 120);
    }
    ExpectTopK(v, k);
    for (int64_t i = 0; i < n; ++i) v[i] = 1 + Limits::epsilon() * (i * 7919 % 1000);
    ExpectTopK(v, k);
    // Mostly zeros; a block of the sample's size that says nothing of the rest.
    for (int64_t i = 0; i < n; ++i) v[i] = i % 64 == 63 ? TypeParam(i) : 0;
    ExpectTopK(v, k);
    v[17] = Limits::infinity(), v[18] = -Limits::quiet_NaN(), v[4000] = Limits::quiet_NaN();
    ExpectTopK(v, k);
  }
}

TYPED_TEST(TopKTest, KeepsKOfEveryBlock) {
  const auto codec = CodecOrDie("top_k", {{"fraction", "0.1"}, {"block", "100"}});
  const auto v = NormalVector<TypeParam>(1037, 3);
  const auto back = ThereAndBack(*codec, {1037}, v);
  for (int64_t first = 0; first < 1037; first += 100) {
    const int64_t n = std::min<int64_t>(100, 1037 - first);
    const std::vector<TypeParam> block(v.begin() + first, v.begin() + first + n);
    const auto expected = TopKByDefinition(block, n == 100 ? 10 : 4);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), back.begin() + first)) << first;
  }
  EXPECT_EQ(codec->Contraction({1037}), 0.1);
  EXPECT_EQ(codec->Contraction({5}), 0.2);
}

TEST(RandKTest, DrawsEachSubsetAlikeAndNewEachRound) {
  const auto codec = CodecOrDie("rand_k", {{"k", "2"}, {"block", "5"}});
  const std::vector<double> ones(10, 1);
  std::vector<int> pairs(25, 0);
  const int num_rounds = 20000;
  for (int round = 0; round < num_rounds; ++round) {
    const auto kept = ThereAndBack(*codec, {10}, ones, {8, round});
    std::vector<int> chosen;
    for (int i = 0; i < 5; ++i) {
      if (kept[i] != 0) chosen.push_back(i);
    }
    ASSERT_EQ(chosen.size(), 2u);
    ASSERT_EQ(std::accumulate(kept.begin() + 5, kept.end(), 0.0), 2);
    ++pairs[chosen[0] * 5 + chosen[1]];
  }
  // Ten pairs of probability 1/10: five standard deviations.
  const double sigma = std::sqrt(num_rounds * 0.1 * 0.9);
  for (int a = 0; a < 5; ++a) {
    for (int b = a + 1; b < 5; ++b) {
      EXPECT_NEAR(pairs[a * 5 + b], num_rounds / 10.0, 5 * sigma) << a << " " << b;
    }
  }
}

TEST(RandKTest, DependsOnSeedRoundParameterAndBlockAlone) {
  const auto codec = CodecOrDie("rand_k", {{"fraction", "0.25"}, {"block", "64"}});
  const std::vector<float> ones(128, 1);
  const auto kept = [&](uint64_t key, uint64_t seed, int64_t round) {
    const CodecPiece piece{key, {128}, 0, 128};
    const auto bytes = Encoded(*codec, piece, ones, {seed, round});
    return Decoded<float>(*codec, piece, bytes, {seed, round});
  };
  const auto reference = kept(1, 2, 3);
  EXPECT_EQ(kept(1, 2, 3), reference);
  EXPECT_NE(kept(2, 2, 3), reference);
  EXPECT_NE(kept(1, 3, 3), reference);
  EXPECT_NE(kept(1, 2, 4), reference);
  EXPECT_FALSE(std::equal(reference.begin(), reference.begin() + 64, reference.begin() + 64));
}

TEST(RandKTest, ContractsInExpectationAndUnbiasedMeans) {
  const auto plain = CodecOrDie("rand_k", {{"fraction", "0.25"}, {"block", "16"}});
  const auto unbiased =
      CodecOrDie("rand_k", {{"fraction", "0.25"}, {"block", "16"}, {"unbiased", "true"}});
  const auto v = NormalVector<double>(64);
  const int num_rounds = 4000;
  double lost = 0;
  std::vector<double> mean(64, 0);
  for (int round = 0; round < num_rounds; ++round) {
    lost += SquaredDistance(ThereAndBack(*plain, {64}, v, {1, round}), v) / num_rounds;
    const auto sent = ThereAndBack(*unbiased, {64}, v, {1, round});
    for (int i = 0; i < 64; ++i) mean[i] += sent[i] / num_rounds;
  }
  EXPECT_EQ(plain->Contraction({64}), 0.25);
  EXPECT_NEAR(lost, 0.75 * SquaredNorm(v), 0.02 * SquaredNorm(v));
  for (int i = 0; i < 64; ++i) {
    EXPECT_NEAR(mean[i], v[i], 6 * std::abs(v[i]) * std::sqrt(3.0 / num_rounds));
  }
}

}  // namespace
}  // namespace trireme
