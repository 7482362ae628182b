#include "core/base/rng.h"

#include <cmath>
#include <cstring>
#include <numbers>

namespace trireme {
namespace {

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection with full avalanche.
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t StableHash(absl::string_view bytes, uint64_t seed) {
  uint64_t hash = Mix(seed ^ Mix(bytes.size()));
  while (!bytes.empty()) {
    uint64_t word = 0;
    const size_t n = bytes.size() < 8 ? bytes.size() : 8;
    std::memcpy(&word, bytes.data(), n);
    hash = Mix(hash ^ word);
    bytes.remove_prefix(n);
  }
  return hash;
}

RngKey MakeRngKey(uint64_t seed, absl::string_view name, uint64_t step) {
  const uint64_t hash = Mix(StableHash(name, seed) ^ Mix(step));
  return {static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)};
}

double UniformAt(RngKey key, uint64_t index) {
  return UniformFromBits(Philox(key, index / 4)[index % 4]);
}

double NormalAt(RngKey key, uint64_t index) {
  // Box-Muller: elements 2i and 2i + 1 share a pair of uniforms.
  const RngBlock block = Philox(key, index / 4);
  const int pair = (index % 4) / 2 * 2;
  const double radius = std::sqrt(-2.0 * std::log(UniformFromBits(block[pair])));
  const double angle = 2.0 * std::numbers::pi * UniformFromBits(block[pair + 1]);
  return index % 2 == 0 ? radius * std::cos(angle) : radius * std::sin(angle);
}

}  // namespace trireme
