// Random numbers are a function of (seed, name, step) as key and a 128-bit counter of global position.
// No generator state: a shard of a tensor draws the same numbers as the whole.
//
// Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11).
#pragma once

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace trireme {

struct RngKey {
  uint32_t lo = 0;
  uint32_t hi = 0;
};

// Mixes the three into a key. Different names give independent streams.
RngKey MakeRngKey(uint64_t seed, absl::string_view name, uint64_t step = 0);

// A 64-bit hash that never changes: it decides file contents (validation splits, data order).
uint64_t StableHash(absl::string_view bytes, uint64_t seed = 0);

using RngBlock = std::array<uint32_t, 4>;

inline RngBlock Philox(RngKey key, uint64_t counter_lo, uint64_t counter_hi = 0) {
  uint32_t c0 = static_cast<uint32_t>(counter_lo), c1 = static_cast<uint32_t>(counter_lo >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_hi), c3 = static_cast<uint32_t>(counter_hi >> 32);
  uint32_t k0 = key.lo, k1 = key.hi;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {c0, c1, c2, c3};
}

// In (0, 1): the midpoints of 2^32 equal cells, so that log(u) is finite.
inline double UniformFromBits(uint32_t bits) { return (bits + 0.5) * 0x1p-32; }

// The numbers of element `index` of the stream `key`: uniform in (0, 1), standard normal.
double UniformAt(RngKey key, uint64_t index);
double NormalAt(RngKey key, uint64_t index);

}  // namespace trireme
