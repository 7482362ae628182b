// f16 and bf16: each value rounded to nearest even in 16 bits, by way of f32. f16 keeps 11 bits of
// what lies within [6e-5, 65504] and turns what is larger into infinities; bf16 keeps 8 bits over
// the range of f32.
#include "parallel/sync/half_codecs.h"

#include "parallel/sync/block_codec.h"

namespace trireme {
namespace {

template <typename Half>
class HalfCodec : public Codec {
 public:
  int64_t block_size() const override { return 1; }
  // Outside the range of f16 nothing is bounded.
  double Contraction(const Shape&) const override {
    return std::is_same_v<Half, bfloat16> ? 1 - 0x1p-16 : 0;
  }
  int64_t EncodedBytes(const CodecPiece& piece, DType) const override {
    return piece.size * static_cast<int64_t>(sizeof(Half));
  }

  void Encode(const CodecPiece& piece, const RoundKey&, const View& values,
              absl::Span<uint8_t> bytes) const override {
    CheckSizes(piece, values, bytes.size());
    DispatchValues(values, [&]<typename T>(T) {
      const T* x = values.as<T>();
      uint8_t* out = bytes.data();
#pragma omp simd
      for (int64_t i = 0; i < piece.size; ++i) {
        StoreAs(Half(static_cast<float>(x[i])).bits, out + i * sizeof(Half));
      }
    });
  }
  void Decode(const CodecPiece& piece, const RoundKey&, absl::Span<const uint8_t> bytes,
              const View& values) const override {
    CheckSizes(piece, values, bytes.size());
    DispatchValues(values, [&]<typename T>(T) {
      T* x = values.as<T>();
      const uint8_t* in = bytes.data();
#pragma omp simd
      for (int64_t i = 0; i < piece.size; ++i) {
        Half half;
        half.bits = LoadAs<uint16_t>(in + i * sizeof(Half));
        x[i] = static_cast<T>(static_cast<float>(half));
      }
    });
  }

 private:
  void CheckSizes(const CodecPiece& piece, const View& values, size_t num_bytes) const {
    CHECK_EQ(values.numel(), piece.size);
    CHECK_EQ(static_cast<int64_t>(num_bytes), EncodedBytes(piece, values.dtype));
  }
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeF16(const Params&) {
  return {std::make_unique<HalfCodec<float16>>()};
}

StatusOr<std::unique_ptr<Codec>> MakeBf16(const Params&) {
  return {std::make_unique<HalfCodec<bfloat16>>()};
}

}  // namespace trireme
