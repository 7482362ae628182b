// How kernels read and write elements: in the accumulation type, one by one or 16 bytes at once.
#pragma once

#include <bit>
#include <cstdint>

#include "core/device/cuda/language.cuh"
#include "core/tensor/dtype.h"

namespace trireme {

template <typename T>
__device__ inline AccOf<T> Load(const T* p) {
  return static_cast<AccOf<T>>(*p);
}

template <typename T>
__device__ inline void Store(T* p, AccOf<T> value) {
  *p = T(value);
}

// The word that moves `bytes` bytes in one access.
template <int bytes>
struct WordOf;
template <>
struct WordOf<16> {
  using type = uint4;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<4> {
  using type = uint32_t;
};
template <>
struct WordOf<2> {
  using type = uint16_t;
};
template <>
struct WordOf<1> {
  using type = uint8_t;
};

// kCount neighbouring elements, of 16 bytes together at most; in memory aligned to their size.
template <typename T, int kCount>
struct Chunk {
  using Word = typename WordOf<sizeof(T) * kCount>::type;
  T at[kCount];

  static __device__ Chunk From(const T* p) {
    return std::bit_cast<Chunk>(*reinterpret_cast<const Word*>(p));
  }
  __device__ void To(T* p) const { *reinterpret_cast<Word*>(p) = std::bit_cast<Word>(*this); }
};

template <typename T>
inline constexpr int kChunk = 16 / sizeof(T);

// May T be read in chunks of kCount from p on, and from each multiple of `stride` behind it?
template <int kCount, typename T>
inline bool InChunks(const T* p, int64_t stride = 0) {
  return reinterpret_cast<uintptr_t>(p) % (kCount * sizeof(T)) == 0 && stride % kCount == 0;
}

}  // namespace trireme
