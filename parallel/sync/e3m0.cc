// e3m0: a sign and an exponent of 3 bits: x / m is one of 0, +-2^-6, ..., +-2^-1, +-1, the nearest,
// m the largest magnitude of the block. |error| <= max(|x| / 3, m / 128).
//
// Douillard et al., "Streaming DiLoCo with overlapping communication" (2025), sends outer gradients
// so.
//
// Bytes of a block: m, then elements 2 i and 2 i + 1 in the low and the high half of byte i.
#include "parallel/sync/e3m0.h"

#include "parallel/sync/block_scale.h"

namespace trireme {
namespace {

// |value| <= 1, or next to it.
inline uint8_t ToE3m0(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  constexpr uint32_t kHalf = 1 << 22;  // Of the distance to the next power of two.
  // 7 stands for 1. Between 2^-7 and 2^-6 all go up, below 2^-7 down to 0.
  const int32_t code = std::max(1, static_cast<int32_t>((magnitude + kHalf) >> 23) - 120);
  const int32_t shown = magnitude < 0x3C000000 ? 0 : code;
  return static_cast<uint8_t>((bits >> 28 & 8) | shown);
}

class E3m0 : public BlockCodec<E3m0> {
 public:
  using BlockCodec::BlockCodec;

  double Contraction(const Shape& parameter) const override {
    return ScaledContraction(parameter, block_size(), 1.0 / 3, 1.0 / 128);
  }

  int64_t BlockBytes(int64_t n, DType dtype) const { return DTypeSize(dtype) + (n + 1) / 2; }

  template <typename T>
  void EncodeBlock(const CodecBlock& block, const T* x, uint8_t* bytes) const {
    const T largest = LargestMagnitude(x, block.size);
    const BlockScale<T> scale(largest, 1);
    bytes = StoreAs<T>(largest, bytes);
    const auto code = [&](int64_t i) -> uint8_t {
      return ToE3m0(static_cast<float>(x[i] * scale.lift * scale.to_levels));
    };
    const int64_t num_pairs = block.size / 2;
#pragma omp simd
    for (int64_t i = 0; i < num_pairs; ++i) {
      bytes[i] = static_cast<uint8_t>(code(2 * i) | code(2 * i + 1) << 4);
    }
    if (block.size % 2 != 0) bytes[num_pairs] = code(block.size - 1);
  }

  template <typename T>
  void DecodeBlock(const CodecBlock& block, const uint8_t* bytes, T* x) const {
    const T largest = LoadAs<T>(bytes);
    T values[16];
    for (int code = 0; code < 8; ++code) {
      values[code] = code == 0 ? largest * 0 : std::ldexp(largest, code - 7);
      values[code + 8] = -values[code];
    }
    bytes += sizeof(T);
    for (int64_t i = 0; i < block.size / 2; ++i) {
      x[2 * i] = values[bytes[i] & 15];
      x[2 * i + 1] = values[bytes[i] >> 4];
    }
    if (block.size % 2 != 0) x[block.size - 1] = values[bytes[block.size / 2] & 15];
  }
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeE3m0(const Params& params) {
  return {std::make_unique<E3m0>(params.Int("block"))};
}

}  // namespace trireme
