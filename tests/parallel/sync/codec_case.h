// Vectors and calls that the tests of codecs share.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/rng.h"
#include "parallel/sync/codec.h"

namespace trireme {

template <typename T>
View ViewOf(const std::vector<T>& values) {
  View view;
  view.data = const_cast<T*>(values.data());
  view.dtype = DTypeOf<T>::value;
  view.rank = 1;
  view.sizes[0] = static_cast<int64_t>(values.size());
  view.strides[0] = 1;
  return view;
}

inline std::unique_ptr<Codec> CodecOrDie(absl::string_view name, const ParamMap& params = {}) {
  auto codec = MakeCodec(name, params);
  CHECK(codec.ok()) << codec.status().ToString();
  return std::move(*codec);
}

inline CodecPiece WholePiece(const Shape& shape) { return {7, shape, 0, shape.numel()}; }

template <typename T>
std::vector<uint8_t> Encoded(const Codec& codec, const CodecPiece& piece, const std::vector<T>& v,
                             const RoundKey& round = {1, 2}) {
  std::vector<uint8_t> bytes(codec.EncodedBytes(piece, DTypeOf<T>::value), 0xA5);
  codec.Encode(piece, round, ViewOf(v), absl::MakeSpan(bytes));
  return bytes;
}

template <typename T>
std::vector<T> Decoded(const Codec& codec, const CodecPiece& piece,
                       const std::vector<uint8_t>& bytes, const RoundKey& round = {1, 2}) {
  std::vector<T> v(piece.size, T(-77));
  codec.Decode(piece, round, bytes, ViewOf(v));
  return v;
}

template <typename T>
std::vector<T> ThereAndBack(const Codec& codec, const Shape& shape, const std::vector<T>& v,
                            const RoundKey& round = {1, 2}) {
  const CodecPiece piece = WholePiece(shape);
  return Decoded<T>(codec, piece, Encoded(codec, piece, v, round), round);
}

template <typename T>
std::vector<T> NormalVector(int64_t n, uint64_t seed = 0, double scale = 1) {
  std::vector<T> v(n);
  for (int64_t i = 0; i < n; ++i) {
    v[i] = static_cast<T>(scale * NormalAt({static_cast<uint32_t>(seed), 5}, i));
  }
  return v;
}

template <typename T>
double SquaredNorm(const std::vector<T>& v) {
  double sum = 0;
  for (const T x : v) sum += static_cast<double>(x) * x;
  return sum;
}

template <typename T>
double SquaredDistance(const std::vector<T>& a, const std::vector<T>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    sum += d * d;
  }
  return sum;
}

}  // namespace trireme
