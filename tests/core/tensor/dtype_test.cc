// Conversions between element types, over all 65536 values of the short ones.
#include "core/tensor/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "core/tensor/tensor.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

template <typename T>
class ShortTypeTest : public ::testing::Test {};

struct Bf16 {
  using Type = bfloat16;
  static constexpr int kMantissaBits = 7, kExponentBits = 8;
};
struct F16 {
  using Type = float16;
  static constexpr int kMantissaBits = 10, kExponentBits = 5;
};
using ShortTypes = ::testing::Types<Bf16, F16>;
TYPED_TEST_SUITE(ShortTypeTest, ShortTypes);

// The value of a bit pattern, from the definition of the format.
template <typename Format>
double ValueOf(uint16_t bits) {
  constexpr int kBias = (1 << (Format::kExponentBits - 1)) - 1;
  const int exponent = (bits >> Format::kMantissaBits) & ((1 << Format::kExponentBits) - 1);
  const int fraction = bits & ((1 << Format::kMantissaBits) - 1);
  const double sign = bits >> 15 != 0 ? -1 : 1;
  if (exponent == (1 << Format::kExponentBits) - 1) {
    return fraction != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  }
  const int lead = exponent == 0 ? 0 : 1 << Format::kMantissaBits;
  return sign * std::ldexp(lead + fraction, std::max(exponent, 1) - kBias - Format::kMantissaBits);
}

template <typename T>
T FromBits(int bits) {
  T value;
  value.bits = static_cast<uint16_t>(bits);
  return value;
}

TYPED_TEST(ShortTypeTest, AllValuesRoundTrip) {
  using T = typename TypeParam::Type;
  for (int bits = 0; bits < 65536; ++bits) {
    const float value = static_cast<float>(FromBits<T>(bits));
    const double expected = ValueOf<TypeParam>(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value) && std::isnan(static_cast<float>(T(value)))) << bits;
      continue;
    }
    ASSERT_EQ(value, expected) << bits;
    ASSERT_EQ(std::signbit(value), std::signbit(expected)) << bits;
    ASSERT_EQ(T(value).bits, bits);
  }
}

TYPED_TEST(ShortTypeTest, HalfwayRoundsToEvenAndItsNeighboursToTheNearest) {
  using T = typename TypeParam::Type;
  for (int bits = 0; bits < 65535; ++bits) {
    const double low = ValueOf<TypeParam>(static_cast<uint16_t>(bits));
    const double high = ValueOf<TypeParam>(static_cast<uint16_t>(bits + 1));
    if (!std::isfinite(low) || !std::isfinite(high)) continue;
    const float middle = static_cast<float>((low + high) / 2);
    ASSERT_EQ(middle, (low + high) / 2);
    const float toward_low = std::nextafter(middle, static_cast<float>(low));
    const float toward_high = std::nextafter(middle, static_cast<float>(high));
    ASSERT_EQ(T(middle).bits, bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(T(toward_low).bits, bits);
    ASSERT_EQ(T(toward_high).bits, bits + 1);
  }
}

TYPED_TEST(ShortTypeTest, OverflowGoesToInfinity) {
  using T = typename TypeParam::Type;
  const int infinity = ((1 << TypeParam::kExponentBits) - 1) << TypeParam::kMantissaBits;
  const double largest = ValueOf<TypeParam>(static_cast<uint16_t>(infinity - 1));
  const double below = ValueOf<TypeParam>(static_cast<uint16_t>(infinity - 2));
  const float limit = static_cast<float>(largest + (largest - below) / 2);
  EXPECT_EQ(T(limit).bits, infinity);
  EXPECT_EQ(T(std::nextafter(limit, 0.0f)).bits, infinity - 1);
  EXPECT_EQ(T(-limit).bits, infinity | 0x8000);
  EXPECT_EQ(T(std::numeric_limits<float>::infinity()).bits, infinity);
}

TYPED_TEST(ShortTypeTest, NanStaysNanWhateverItsPayload) {
  using T = typename TypeParam::Type;
  for (const uint32_t word : {0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0x7FC00000u, 0x7F80FFFFu}) {
    EXPECT_TRUE(std::isnan(static_cast<float>(T(std::bit_cast<float>(word))))) << word;
  }
}

// The kernels must agree with the scalar conversions, and round f64 once.
TYPED_TEST(ShortTypeTest, TensorsConvertAlike) {
  using T = typename TypeParam::Type;
  const auto cpu = testing::MakeTestDevice();
  std::vector<T> all(65536);
  for (int bits = 0; bits < 65536; ++bits) all[bits] = FromBits<T>(bits);
  const Tensor x = Tensor::FromHost<T>(*cpu, {65536}, all);
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    const Tensor wide = x.CopyTo(dtype);
    const std::vector<double> values = wide.ToVector();
    const Tensor back = wide.CopyTo(DTypeOf<T>::value);
    for (int bits = 0; bits < 65536; ++bits) {
      const double expected = ValueOf<TypeParam>(static_cast<uint16_t>(bits));
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(values[bits]));
        ASSERT_TRUE(std::isnan(static_cast<float>(back.ToHost<T>()[bits])));
        continue;
      }
      ASSERT_EQ(values[bits], expected);
      ASSERT_EQ(back.ToHost<T>()[bits].bits, bits);
    }
  }
}

TYPED_TEST(ShortTypeTest, F64RoundsOnce) {
  using T = typename TypeParam::Type;
  const auto cpu = testing::MakeTestDevice();
  // Just above halfway between 1 and its successor: by way of f32 it would become a tie, and round
  // down.
  const double halfway = 1 + std::ldexp(1.0, -TypeParam::kMantissaBits - 1);
  const double above = std::nextafter(halfway, 2.0), below = std::nextafter(halfway, 1.0);
  const double odd = 1 + 3 * std::ldexp(1.0, -TypeParam::kMantissaBits - 1);
  const Tensor x = Tensor::FromVector(
      *cpu, {6}, {halfway, above, below, -above, std::nextafter(odd, 1.0), 1e300},
      DTypeOf<T>::value);
  const uint16_t one = T(1.0f).bits, next = one + 1;
  const std::vector<uint16_t> expected = {
      one, next, one, static_cast<uint16_t>(next | 0x8000), next, T(INFINITY).bits};
  for (int i = 0; i < 6; ++i) EXPECT_EQ(x.ToHost<T>()[i].bits, expected[i]) << i;
}

TEST(ConversionTest, EveryPairOfTypesKeepsSmallIntegers) {
  const auto cpu = testing::MakeTestDevice();
  const std::vector<double> values = {0, 1, 2, 3, 100, 128};
  const std::vector<DType> all = {DType::kF64, DType::kF32, DType::kBF16, DType::kF16,
                                  DType::kI64, DType::kI32, DType::kU8};
  for (const DType from : all) {
    for (const DType to : all) {
      const Tensor x = Tensor::FromVector(*cpu, {2, 3}, values, from);
      EXPECT_EQ(x.CopyTo(to).ToVector(), values) << DTypeName(from) << " to " << DTypeName(to);
    }
  }
}

TEST(ConversionTest, IntegersAreNotSqueezedThroughF32) {
  const auto cpu = testing::MakeTestDevice();
  const int64_t big = (int64_t{1} << 53) + 1;
  const Tensor x = Tensor::FromHost<int64_t>(*cpu, {2}, {big, -big});
  EXPECT_EQ(x.CopyTo(DType::kI64).ToHost<int64_t>()[0], big);
  const Tensor y = Tensor::FromHost<int32_t>(*cpu, {1}, {16777217});
  EXPECT_EQ(y.CopyTo(DType::kF64).Item(), 16777217);
  EXPECT_EQ(y.CopyTo(DType::kI64).ToHost<int64_t>()[0], 16777217);
}

}  // namespace
}  // namespace trireme
