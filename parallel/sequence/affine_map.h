// What a stretch of tokens does to the states that enter it, for every line and head:
//   S_out = M S_in + L,   with M = 0 in lines that it resets.
// One after another they are one again: (M2, L2) after (M1, L1) = (M2 M1, M2 L1 + L2). All in the
// accumulation type.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor/tensor.h"

namespace trireme {

enum class TransitionKind : uint8_t {
  kIdentity,
  kDecay,   // e^transition, at most 1: [lines, h, 1] or [lines, h, K].
  kMatrix,  // [lines, h, K, K]
};

struct AffineMap {
  TransitionKind kind = TransitionKind::kIdentity;
  Tensor transition;            // Undefined for kIdentity. Not read in lines that are reset.
  Tensor state;                 // L [lines, h, K, V].
  std::vector<uint8_t> resets;  // By line.
};

// S_out; `entering` undefined: zeros. May be map.state itself.
Tensor Apply(const AffineMap& map, const Tensor& entering);

AffineMap Compose(const AffineMap& later, const AffineMap& earlier);

// M^T in place of M.
AffineMap Transposed(AffineMap map);

// The same for columns [begin, begin + size) of the states: they do not mix.
AffineMap Columns(AffineMap map, int64_t begin, int64_t size);

}  // namespace trireme
