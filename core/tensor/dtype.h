// Element types. bf16 and f16 are storage types: arithmetic on them is done in f32.
#pragma once

#include <bit>
#include <cstdint>

namespace trireme {

enum class DType : uint8_t { kF64, kF32, kBF16, kF16, kI64, kI32, kU8 };

inline constexpr int64_t DTypeSize(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kU8:
      return 1;
  }
  return 0;
}

inline constexpr const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "f64";
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kI64:
      return "i64";
    case DType::kI32:
      return "i32";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

inline constexpr bool IsFloating(DType dtype) { return dtype <= DType::kF16; }

// The type in which sums over values of `dtype` are kept: gradients, states, statistics.
inline constexpr DType AccumulationType(DType dtype) {
  return dtype == DType::kF64 ? DType::kF64 : DType::kF32;
}

// bfloat16: the upper half of an f32, rounded to nearest even; NaN stays NaN.
struct bfloat16 {
  uint16_t bits = 0;
  bfloat16() = default;
  constexpr explicit bfloat16(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (word + 0x7FFF + ((word >> 16) & 1)) >> 16;
    const bool is_nan = (word & 0x7FFFFFFF) > 0x7F800000;
    bits = static_cast<uint16_t>(is_nan ? (word >> 16) | 0x40 : rounded);
  }
  constexpr explicit operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

// IEEE binary16, rounded to nearest even, with subnormals. Storage and wire only.
struct float16 {
  uint16_t bits = 0;
  float16() = default;
  constexpr explicit float16(float value);
  constexpr explicit operator float() const;
};

constexpr float16::float16(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (word >> 16) & 0x8000;
  const uint32_t magnitude = word & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) {  // NaN: keep it one.
    bits = static_cast<uint16_t>(sign | 0x7E00);
  } else if (magnitude >= 0x477FF000) {  // At least 65520 rounds to infinity.
    bits = static_cast<uint16_t>(sign | 0x7C00);
  } else if (magnitude < 0x38800000) {  // Below 2^-14: subnormal, in units of 2^-24.
    // Adding 0.5 puts the unit of the last place of an f32 at 2^-24, so the hardware rounds.
    const uint32_t rounded = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f);
    bits = static_cast<uint16_t>(sign | (rounded - 0x3F000000));
  } else {
    const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
    bits = static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
  }
}

constexpr float16::operator float() const {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1F;
  const uint32_t fraction = bits & 0x3FF;
  uint32_t word = 0;
  if (exponent == 0) {
    word = std::bit_cast<uint32_t>(static_cast<float>(fraction) * 0x1p-24f);
  } else if (exponent == 31) {
    word = 0x7F800000 | fraction << 13;
  } else {
    word = (exponent + 112) << 23 | fraction << 13;
  }
  return std::bit_cast<float>(word | sign);
}

// DTypeOf<T>::value is the DType of the C++ type T; AccOf<T> its accumulation type.
template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<bfloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<float16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};

template <typename T>
struct AccTypeOf {
  using type = float;
};
template <>
struct AccTypeOf<double> {
  using type = double;
};
template <typename T>
using AccOf = typename AccTypeOf<T>::type;

}  // namespace trireme
