#include "parallel/sequence/affine_map.h"

#include <algorithm>

#include "core/base/log.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

bool All(const std::vector<uint8_t>& lines) {
  return std::all_of(lines.begin(), lines.end(), [](uint8_t x) { return x != 0; });
}
bool None(const std::vector<uint8_t>& lines) {
  return std::all_of(lines.begin(), lines.end(), [](uint8_t x) { return x == 0; });
}

// M S; M is a matrix, or [lines, h, 1 or K, 1] to multiply by.
Tensor Times(const AffineMap& map, const Tensor& states) {
  switch (map.kind) {
    case TransitionKind::kIdentity:
      return states;
    case TransitionKind::kDecay: {
      Shape rows = map.transition.shape();
      rows.Append(1);
      return Mul(Exp(Reshape(map.transition, rows)), states);
    }
    case TransitionKind::kMatrix:
      return MatMul(map.transition, states);
  }
  return Tensor();
}

}  // namespace

Tensor Apply(const AffineMap& map, const Tensor& entering) {
  if (!entering.defined() || All(map.resets)) return map.state;
  const Tensor sum = Add(Times(map, entering), map.state);
  if (None(map.resets)) return sum;
  // Not a product with zero: what a document begins with is free of an earlier one's NaN.
  const int64_t lines = static_cast<int64_t>(map.resets.size());
  return Where(Tensor::FromHost<uint8_t>(sum.device(), {lines, 1, 1, 1}, map.resets), map.state,
               sum);
}

AffineMap Compose(const AffineMap& later, const AffineMap& earlier) {
  CHECK(later.kind == earlier.kind) << "maps of two kinds [affine_scan]";
  AffineMap both = {later.kind, later.transition, Apply(later, earlier.state), later.resets};
  for (size_t line = 0; line < both.resets.size(); ++line) {
    both.resets[line] |= earlier.resets[line];
  }
  if (All(both.resets)) return both;
  if (later.kind == TransitionKind::kDecay) {
    both.transition = Add(later.transition, earlier.transition);
  } else if (later.kind == TransitionKind::kMatrix) {
    both.transition = MatMul(later.transition, earlier.transition);
  }
  return both;
}

AffineMap Transposed(AffineMap map) {
  if (map.kind == TransitionKind::kMatrix) map.transition = Transpose(map.transition, -2, -1);
  return map;
}

AffineMap Columns(AffineMap map, int64_t begin, int64_t size) {
  map.state = Slice(map.state, -1, begin, size);
  return map;
}

}  // namespace trireme
