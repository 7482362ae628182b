// Random numbers are a function of (seed, name, step) as key and a 128-bit counter of global
// position. No generator state: a shard of a tensor draws the same numbers as the whole.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

#include "core/base/philox.h"

namespace trireme {

// Mixes the three into a key. Different names give independent streams.
RngKey MakeRngKey(uint64_t seed, absl::string_view name, uint64_t step = 0);

// A 64-bit hash that never changes: it decides file contents (validation splits, data order).
uint64_t StableHash(absl::string_view bytes, uint64_t seed = 0);

// The numbers of element `index` of the stream `key`: uniform in (0, 1), standard normal.
double UniformAt(RngKey key, uint64_t index);
double NormalAt(RngKey key, uint64_t index);

}  // namespace trireme
