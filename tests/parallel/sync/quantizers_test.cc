// The codecs of few bits against their definitions.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/parallel/sync/codec_case.h"

namespace trireme {
namespace {

template <typename T>
class QuantizerTest : public testing::Test {};
using ValueTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(QuantizerTest, ValueTypes);

TYPED_TEST(QuantizerTest, Int8IsTheNearestOf255Levels) {
  const auto codec = CodecOrDie("int8", {{"block", "0"}});
  for (const double scale : {1.0, 127.0, 1e-30, sizeof(TypeParam) == 4 ? 3e38 : 1.7e308,
                             sizeof(TypeParam) == 4 ? 1e-44 : 1e-322}) {
    auto v = NormalVector<TypeParam>(1000, 1, scale / 8);
    v[123] = static_cast<TypeParam>(-scale);
    const auto back = ThereAndBack(*codec, {1000}, v);
    const double denormal = std::numeric_limits<TypeParam>::denorm_min();
    for (size_t i = 0; i < v.size(); ++i) {
      ASSERT_LE(std::abs(back[i] / scale - v[i] / scale), 0.5 / 127 * 1.0001 + denormal / scale);
      ASSERT_TRUE(std::isfinite(back[i]));
    }
  }
  // A scale of one: integers are themselves, halves go to the even.
  const auto integers = ThereAndBack<TypeParam>(*codec, {6}, {127, -3, 0.5, 1.5, -2.5, -126.6});
  EXPECT_EQ(integers, (std::vector<TypeParam>{127, -3, 0, 2, -2, -127}));
}

// All magnitudes that e4m3 has, from its definition.
std::vector<double> E4m3Values() {
  std::vector<double> values;
  for (int code = 0; code < 127; ++code) {
    const int exponent = code >> 3, mantissa = code & 7;
    values.push_back(exponent == 0 ? std::ldexp(mantissa, -9)
                                   : std::ldexp(8 + mantissa, exponent - 10));
  }
  return values;
}

TYPED_TEST(QuantizerTest, Fp8E4m3IsTheNearestTiesToEven) {
  const std::vector<double> values = E4m3Values();
  ASSERT_EQ(values.back(), 448);
  const auto codec = CodecOrDie("fp8_e4m3", {{"block", "0"}});
  std::vector<TypeParam> v = {448};
  for (size_t i = 0; i < values.size(); ++i) {
    v.push_back(static_cast<TypeParam>(values[i]));
    if (i + 1 == values.size()) break;
    for (const double t : {0.25, 0.5, 0.51, 0.9}) {
      v.push_back(static_cast<TypeParam>(-(values[i] + t * (values[i + 1] - values[i]))));
    }
  }
  const auto back = ThereAndBack(*codec, {static_cast<int64_t>(v.size())}, v);
  for (size_t i = 0; i < v.size(); ++i) {
    size_t nearest = 0;
    for (size_t c = 1; c < values.size(); ++c) {
      const double now = std::abs(std::abs(v[i]) - values[c]);
      const double best = std::abs(std::abs(v[i]) - values[nearest]);
      if (now < best || (now == best && c % 2 == 0)) nearest = c;
    }
    EXPECT_EQ(back[i], static_cast<TypeParam>(std::copysign(values[nearest], v[i]))) << v[i];
  }
}

TYPED_TEST(QuantizerTest, E3m0IsTheNearestPowerOfTwoOrZero) {
  const auto codec = CodecOrDie("e3m0", {{"block", "0"}});
  std::vector<double> values = {0};
  for (int e = -6; e <= 0; ++e) values.push_back(std::ldexp(3.0, e));
  auto v = NormalVector<TypeParam>(1001, 1, 0.5);
  v[0] = -3;
  for (int i = 1; i < 400; ++i) v[i] = static_cast<TypeParam>((i % 2 ? 3 : -3) * i / 6400.0);
  const auto back = ThereAndBack(*codec, {1001}, v);
  for (size_t i = 0; i < v.size(); ++i) {
    double best = 1e9;
    bool is_level = false;
    for (const double value : values) {
      best = std::min(best, std::abs(std::abs(v[i]) - value));
      is_level |= std::abs(back[i]) == value;
    }
    EXPECT_TRUE(is_level) << back[i];
    EXPECT_EQ(std::abs(back[i] - v[i]), static_cast<TypeParam>(best)) << v[i] << " " << back[i];
  }
}

TYPED_TEST(QuantizerTest, HalvesAreThoseOfTheTree) {
  auto v = NormalVector<TypeParam>(500, 4, 100);
  v[0] = TypeParam(1e-7), v[1] = TypeParam(-6e-8), v[2] = 65504, v[3] = 65519, v[4] = 65520;
  const auto f16 = ThereAndBack(*CodecOrDie("f16"), {500}, v);
  const auto bf16 = ThereAndBack(*CodecOrDie("bf16"), {500}, v);
  for (size_t i = 0; i < v.size(); ++i) {
    EXPECT_EQ(f16[i], static_cast<float>(float16(static_cast<float>(v[i]))));
    EXPECT_EQ(bf16[i], static_cast<float>(bfloat16(static_cast<float>(v[i]))));
  }
  EXPECT_EQ(f16[3], 65504);
  EXPECT_EQ(f16[4], std::numeric_limits<TypeParam>::infinity());
}

TYPED_TEST(QuantizerTest, SignKeepsTheNormOrIsTheNearest) {
  const double epsilon = std::numeric_limits<TypeParam>::epsilon();
  const bool is_f32 = sizeof(TypeParam) == 4;
  for (const int64_t n : {1, 7, 8, 9, 63, 64, 65, 1000}) {
    for (const double scale : {1.0, is_f32 ? 1e37 : 1e300, is_f32 ? 1e-30 : 1e-290}) {
      auto v = NormalVector<TypeParam>(n, 2, scale);
      if (n > 5) v[3] = 0, v[4] = -TypeParam(0);
      auto unit = [&](const std::vector<TypeParam>& x) {
        std::vector<double> scaled(x.begin(), x.end());
        for (double& value : scaled) value /= scale;
        return scaled;
      };
      const auto l2 = ThereAndBack(*CodecOrDie("sign", {{"block", "0"}}), {n}, v);
      const double norm = SquaredNorm(unit(v));
      EXPECT_NEAR(n * std::pow(unit(l2)[0], 2), norm, 16 * epsilon * norm);
      const auto l1 = ThereAndBack(*CodecOrDie("sign", {{"block", "0"}, {"norm", "l1"}}), {n}, v);
      double sum = 0;
      for (const double x : unit(v)) sum += std::abs(x);
      EXPECT_NEAR(SquaredDistance(unit(l1), unit(v)), norm - sum * sum / n, 32 * epsilon * norm);
      for (int64_t i = 0; i < n; ++i) {
        EXPECT_EQ(l2[i] < 0, v[i] < 0) << i;
        EXPECT_EQ(std::abs(l2[i]), std::abs(l2[0]));
        EXPECT_EQ(l1[i] < 0, v[i] < 0) << i;
      }
    }
  }
}

TYPED_TEST(QuantizerTest, TwoBitProjectsOnItsBins) {
  const double epsilon = std::numeric_limits<TypeParam>::epsilon();
  const auto codec = CodecOrDie("two_bit", {{"block", "0"}});
  for (const int64_t n : {1, 2, 3, 4, 5, 63, 1000}) {
    auto v = NormalVector<TypeParam>(n, 6);
    for (TypeParam& x : v) x += TypeParam(0.25);
    const auto back = ThereAndBack(*codec, {n}, v);
    const double norm = SquaredNorm(v);
    EXPECT_NEAR(SquaredDistance(back, v), norm - SquaredNorm(back), 8 * epsilon * norm) << n;
    EXPECT_NEAR(std::accumulate(back.begin(), back.end(), 0.0),
                std::accumulate(v.begin(), v.end(), 0.0), 4 * epsilon * std::sqrt(norm * n));
    // The bins, by their definition.
    const double mean = std::accumulate(v.begin(), v.end(), 0.0) / n;
    double variance = 0;
    for (const double x : v) variance += (x - mean) * (x - mean) / n;
    double sums[4] = {}, counts[4] = {};
    const auto bin = [&](double x) {
      return std::clamp(static_cast<int>(std::floor((x - mean) / (1.5 * std::sqrt(variance)))) + 2,
                        0, 3);
    };
    if (n < 3) continue;
    for (const double x : v) sums[bin(x)] += x, counts[bin(x)] += 1;
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_NEAR(back[i], sums[bin(v[i])] / counts[bin(v[i])], 4 * epsilon) << n << " " << i;
    }
  }
  // A far value does not spoil the means of other bins.
  std::vector<TypeParam> far(64, TypeParam(1e-3));
  far[9] = TypeParam(1e6);
  const auto back = ThereAndBack(*codec, {64}, far);
  EXPECT_NEAR(back[0], 1e-3, 1e-3 * 4 * epsilon);
  EXPECT_EQ(back[9], TypeParam(1e6));
}

}  // namespace
}  // namespace trireme
