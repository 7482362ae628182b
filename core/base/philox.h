// Philox4x32-10, the counter-based generator under core/base/rng.h: 128 random bits of a key and a
// 128-bit counter. Apart, without Abseil and constexpr, so that device code draws the same numbers.
//
// Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11).
#pragma once

#include <array>
#include <cstdint>

namespace trireme {

struct RngKey {
  uint32_t lo = 0;
  uint32_t hi = 0;
};

using RngBlock = std::array<uint32_t, 4>;

constexpr RngBlock Philox(RngKey key, uint64_t counter_lo, uint64_t counter_hi = 0) {
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
constexpr double UniformFromBits(uint32_t bits) { return (bits + 0.5) * 0x1p-32; }

}  // namespace trireme
