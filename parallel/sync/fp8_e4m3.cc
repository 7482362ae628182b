// fp8_e4m3: 448 x / m in the 8-bit float of 4 exponent and 3 mantissa bits (no infinities, 448 the
// largest), m the largest magnitude of the block. |error| <= max(|x| / 16, m / 448 / 1024).
//
// Micikevicius et al., "FP8 formats for deep learning" (2022).
//
// Bytes of a block: m, then a byte each.
#include "parallel/sync/fp8_e4m3.h"

#include "parallel/sync/block_scale.h"

namespace trireme {
namespace {

constexpr int kLargest = 448;

// |value| <= 448, rounded to nearest even.
inline uint8_t ToE4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  const uint32_t rounded = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - (120 << 3);
  // Below 2^-6, in units of 2^-9: the last place of a float just above 2^14.
  const uint32_t denormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14f) - 0x46800000;
  return static_cast<uint8_t>((bits >> 24 & 0x80) | (magnitude < 0x3C800000 ? denormal : rounded));
}

inline float FromE4m3(uint8_t byte) {
  const uint32_t magnitude = byte & 0x7F;
  const uint32_t bits = magnitude < 8
                            ? std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-9f)
                            : (magnitude << 20) + (120u << 23);
  return std::bit_cast<float>(bits | uint32_t{byte & 0x80u} << 24);
}

class Fp8E4m3 : public BlockCodec<Fp8E4m3> {
 public:
  using BlockCodec::BlockCodec;

  double Contraction(const Shape& parameter) const override {
    return ScaledContraction(parameter, block_size(), 1.0 / 16, 1.0 / 1024 / kLargest);
  }

  int64_t BlockBytes(int64_t n, DType dtype) const { return DTypeSize(dtype) + n; }

  template <typename T>
  void EncodeBlock(const CodecBlock& block, const T* x, uint8_t* bytes) const {
    const T largest = LargestMagnitude(x, block.size);
    const BlockScale<T> scale(largest, kLargest);
    bytes = StoreAs<T>(largest, bytes);
#pragma omp simd
    for (int64_t i = 0; i < block.size; ++i) {
      bytes[i] = ToE4m3(static_cast<float>(x[i] * scale.lift * scale.to_levels));
    }
  }

  template <typename T>
  void DecodeBlock(const CodecBlock& block, const uint8_t* bytes, T* x) const {
    const T largest = LoadAs<T>(bytes);
    const BlockScale<T> scale(largest, kLargest);
    bytes += sizeof(T);
#pragma omp simd
    for (int64_t i = 0; i < block.size; ++i) {
      T value = static_cast<T>(FromE4m3(bytes[i])) * scale.from_levels * scale.drop;
      value = value > largest ? largest : value;  // The product may round past it.
      x[i] = value < -largest ? -largest : value;
    }
  }
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeFp8E4m3(const Params& params) {
  return {std::make_unique<Fp8E4m3>(params.Int("block"))};
}

}  // namespace trireme
