// The order of samples, without state: epoch e visits the n samples of the train split in an order
// that is a bijection of [0, n) drawn from (seed, e). Global sample g is number g % n of epoch g /
// n, whatever the number of ranks, so a run is resumed by one integer.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/log.h"
#include "core/base/rng.h"
#include "data/dataset.h"

namespace trireme {

// The image of i under a bijection of [0, n) that `key` draws; 0 <= i < n. An unbalanced Feistel
// network on the bits of n - 1, iterated until the image is below n (Black, Rogaway, "Ciphers with
// arbitrary finite domains", 2002): fewer than two iterations on average.
int64_t PermutedIndex(int64_t i, int64_t n, RngKey key);

class Sampler {
 public:
  // CHECKs num_samples > 0. Without shuffling every epoch goes from 0 to n - 1.
  Sampler(int64_t num_samples, uint64_t seed, bool shuffle = true)
      : num_samples_(num_samples), seed_(seed), shuffle_(shuffle) {
    CHECK_GT(num_samples, 0);
  }

  int64_t Epoch(int64_t sample) const { return sample / num_samples_; }
  SampleRef At(int64_t sample) const;
  // Global samples [begin, begin + count). Step s with global batch B is Range(s * B, B), of which
  // a rank takes the ones it wants.
  std::vector<SampleRef> Range(int64_t begin, int64_t count) const;

 private:
  int64_t num_samples_;
  uint64_t seed_;
  bool shuffle_;
};

}  // namespace trireme
