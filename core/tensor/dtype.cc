#include "core/tensor/dtype.h"

namespace trireme {

float16::float16(float value) {
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

float16::operator float() const {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1F;
  const uint32_t fraction = bits & 0x3FF;
  uint32_t word;
  if (exponent == 0) {
    word = std::bit_cast<uint32_t>(static_cast<float>(fraction) * 0x1p-24f);
  } else if (exponent == 31) {
    word = 0x7F800000 | fraction << 13;
  } else {
    word = (exponent + 112) << 23 | fraction << 13;
  }
  return std::bit_cast<float>(word | sign);
}

}  // namespace trireme
