// int8: q = round(127 x / m), m the largest magnitude of the block; decoded as q m / 127.
// |error| <= m / 254.
//
// Bytes of a block: m, then a byte each.
#include "parallel/sync/int8.h"

#include "parallel/sync/block_scale.h"

namespace trireme {
namespace {

constexpr int kLevels = 127;

class Int8 : public BlockCodec<Int8> {
 public:
  using BlockCodec::BlockCodec;

  double Contraction(const Shape& parameter) const override {
    return ScaledContraction(parameter, block_size(), 0, 0.5 / kLevels);
  }

  int64_t BlockBytes(int64_t n, DType dtype) const { return DTypeSize(dtype) + n; }

  template <typename T>
  void EncodeBlock(const CodecBlock& block, const T* x, uint8_t* bytes) const {
    const T largest = LargestMagnitude(x, block.size);
    const BlockScale<T> scale(largest, kLevels);
    bytes = StoreAs<T>(largest, bytes);
    // Adding it leaves the nearest integer, ties to even, in the last bits.
    constexpr T kRound = sizeof(T) == 8 ? T(0x1.8p52) : T(0x1.8p23);
#pragma omp simd
    for (int64_t i = 0; i < block.size; ++i) {
      const T rounded = x[i] * scale.lift * scale.to_levels + kRound;
      bytes[i] = static_cast<uint8_t>(std::bit_cast<MagnitudeOf<T>>(rounded));
    }
  }

  template <typename T>
  void DecodeBlock(const CodecBlock& block, const uint8_t* bytes, T* x) const {
    const T largest = LoadAs<T>(bytes);
    const BlockScale<T> scale(largest, kLevels);
    bytes += sizeof(T);
#pragma omp simd
    for (int64_t i = 0; i < block.size; ++i) {
      const T level = static_cast<T>(static_cast<int8_t>(bytes[i]));
      T value = level * scale.from_levels * scale.drop;
      value = value > largest ? largest : value;  // The product may round past it.
      x[i] = value < -largest ? -largest : value;
    }
  }
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeInt8(const Params& params) {
  return {std::make_unique<Int8>(params.Int("block"))};
}

}  // namespace trireme
