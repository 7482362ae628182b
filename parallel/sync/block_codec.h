// What codecs of independent blocks share: cutting a piece into its blocks, and the values' type.
//
//   class MyCodec : public BlockCodec<MyCodec> {
//     int64_t BlockBytes(int64_t n, DType dtype) const;
//     template <typename T> void EncodeBlock(const CodecBlock&, const T* x, uint8_t* bytes) const;
//     template <typename T> void DecodeBlock(const CodecBlock&, const uint8_t* bytes, T* x) const;
//   };
#pragma once

#include <algorithm>
#include <cstring>

#include "core/base/log.h"
#include "core/tensor/dispatch.h"
#include "parallel/sync/codec.h"

namespace trireme {

struct CodecBlock {
  const CodecPiece& piece;
  const RoundKey& round;
  int64_t index;  // In the parameter.
  int64_t size;   // Elements.
};

// Calls fn(T{}) with the type of `values`.
template <typename Fn>
void DispatchValues(const View& values, Fn&& fn) {
  CHECK(values.contiguous());
  if (values.dtype == DType::kF64) return fn(double());
  CHECK(values.dtype == DType::kF32) << "codecs take f32 and f64, not " << DTypeName(values.dtype);
  fn(float());
}

// fn(block) for each block of the piece.
template <typename Fn>
void ForEachBlock(const CodecPiece& piece, const RoundKey& round, int64_t block_size, Fn&& fn) {
  const int64_t whole = piece.parameter.numel();
  const int64_t block = block_size == 0 ? whole : block_size;
  const int64_t last = piece.first + piece.size;
  if (piece.size == 0) return;
  CHECK(piece.first % block == 0 && (last == whole || last % block == 0) && last <= whole)
      << "[" << piece.first << ", " << last << ") of " << whole << " is not whole blocks of "
      << block;
  for (int64_t first = piece.first; first < last; first += block) {
    fn(CodecBlock{piece, round, first / block, std::min(block, last - first)});
  }
}

// Sum of of_block(n) over the blocks of the piece, whose sizes take two values at most.
template <typename Fn>
int64_t SumOverBlocks(const CodecPiece& piece, int64_t block_size, Fn&& of_block) {
  if (piece.size == 0) return 0;
  const int64_t block = block_size == 0 ? piece.parameter.numel() : block_size;
  const int64_t rest = piece.size % block;
  const int64_t full = piece.size / block;
  return (full == 0 ? 0 : full * of_block(block)) + (rest == 0 ? 0 : of_block(rest));
}

// The smallest of_block(n) over the blocks of a parameter.
template <typename Fn>
double MinOverBlocks(const Shape& parameter, int64_t block_size, Fn&& of_block) {
  const int64_t whole = parameter.numel();
  if (whole == 0) return 1;
  const int64_t block = block_size == 0 ? whole : std::min(block_size, whole);
  const int64_t rest = whole % block;
  return rest == 0 ? of_block(block) : std::min<double>(of_block(block), of_block(rest));
}

template <typename T>
T LoadAs(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

template <typename T>
uint8_t* StoreAs(T value, uint8_t* bytes) {
  std::memcpy(bytes, &value, sizeof value);
  return bytes + sizeof value;
}

template <typename Derived>
class BlockCodec : public Codec {
 public:
  explicit BlockCodec(int64_t block_size) : block_size_(block_size) {}

  int64_t block_size() const final { return block_size_; }

  int64_t EncodedBytes(const CodecPiece& piece, DType dtype) const final {
    return SumOverBlocks(piece, block_size_,
                         [&](int64_t n) { return derived().BlockBytes(n, dtype); });
  }

  void Encode(const CodecPiece& piece, const RoundKey& round, const View& values,
              absl::Span<uint8_t> bytes) const final {
    CHECK_EQ(values.numel(), piece.size);
    CHECK_EQ(static_cast<int64_t>(bytes.size()), EncodedBytes(piece, values.dtype));
    DispatchValues(values, [&]<typename T>(T) {
      const T* x = values.as<T>();
      uint8_t* out = bytes.data();
      ForEachBlock(piece, round, block_size_, [&](const CodecBlock& block) {
        derived().EncodeBlock(block, x, out);
        x += block.size;
        out += derived().BlockBytes(block.size, values.dtype);
      });
    });
  }

  void Decode(const CodecPiece& piece, const RoundKey& round, absl::Span<const uint8_t> bytes,
              const View& values) const final {
    CHECK_EQ(values.numel(), piece.size);
    CHECK_EQ(static_cast<int64_t>(bytes.size()), EncodedBytes(piece, values.dtype));
    DispatchValues(values, [&]<typename T>(T) {
      T* x = values.as<T>();
      const uint8_t* in = bytes.data();
      ForEachBlock(piece, round, block_size_, [&](const CodecBlock& block) {
        derived().DecodeBlock(block, in, x);
        x += block.size;
        in += derived().BlockBytes(block.size, values.dtype);
      });
    });
  }

 private:
  const Derived& derived() const { return static_cast<const Derived&>(*this); }

  const int64_t block_size_;
};

}  // namespace trireme
