#include "data/sampler.h"

#include <bit>

namespace trireme {
namespace {

// Each half-round xors one side with a function of the other, so it is its own inverse: the network
// is a bijection of [0, 2^(left_bits + right_bits)) whatever Philox returns.
constexpr int kHalfRounds = 8;

uint64_t Feistel(uint64_t x, int left_bits, int right_bits, RngKey key) {
  const uint64_t left_mask = (uint64_t{1} << left_bits) - 1;
  const uint64_t right_mask = (uint64_t{1} << right_bits) - 1;
  uint64_t left = x >> right_bits, right = x & right_mask;
  for (uint64_t round = 0; round < kHalfRounds; round += 2) {
    left ^= Philox(key, right, round)[0] & left_mask;
    right ^= Philox(key, left, round + 1)[0] & right_mask;
  }
  return left << right_bits | right;
}

}  // namespace

int64_t PermutedIndex(int64_t i, int64_t n, RngKey key) {
  CHECK(i >= 0 && i < n) << "index " << i << " of " << n;
  const int bits = std::bit_width(static_cast<uint64_t>(n - 1));
  uint64_t x = static_cast<uint64_t>(i);
  do {
    x = Feistel(x, bits / 2, bits - bits / 2, key);
  } while (x >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(x);
}

SampleRef Sampler::At(int64_t sample) const {
  CHECK_GE(sample, 0);
  const int64_t slot = sample % num_samples_;
  if (!shuffle_) return {sample, slot};
  const RngKey key = MakeRngKey(seed_, "data order", static_cast<uint64_t>(Epoch(sample)));
  return {sample, PermutedIndex(slot, num_samples_, key)};
}

std::vector<SampleRef> Sampler::Range(int64_t begin, int64_t count) const {
  std::vector<SampleRef> refs;
  refs.reserve(count);
  for (int64_t sample = begin; sample < begin + count; ++sample) refs.push_back(At(sample));
  return refs;
}

}  // namespace trireme
