// What the forward and backward pass of attention share: the cut into blocks and how a block is
// read.
//
// A query block is a few tokens with all heads that read one key-value head: row = token * heads +
// head, so that grouped queries make one tall product. Blocks have one size everywhere, padded with
// zero rows at the end of the tensors: products then come in few shapes. Sizes depend on the shapes
// alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "core/ops/cpu/element.h"
#include "core/ops/cpu/gemm_library.h"
#include "core/tensor/view.h"

namespace trireme {

struct AttentionShape {
  int64_t n, m, h, g, d, dv;
  int64_t heads;   // Per key-value head.
  int64_t tokens;  // Of a query block.
  int64_t rows;    // tokens * heads
  int64_t keys;    // Of a key block: a multiple of kLanes.
  int64_t num_query_blocks, num_key_blocks;

  AttentionShape(const View& q, const View& k, const View& v)
      : n(q.sizes[0]), m(k.sizes[0]), h(q.sizes[1]), g(k.sizes[1]), d(q.sizes[2]), dv(v.sizes[2]) {
    constexpr int64_t kRows = 128;
    const auto round_up = [](int64_t size) {
      return std::max<int64_t>(1, (size + kLanes - 1) / kLanes) * kLanes;
    };
    heads = h / g;
    tokens = std::min(std::max<int64_t>(1, kRows / heads), round_up(n));
    rows = tokens * heads;
    keys = std::min(kRows, round_up(m));
    num_query_blocks = (n + tokens - 1) / tokens;
    num_key_blocks = (m + keys - 1) / keys;
  }
};

// A query block and a key block.
struct BlockPair {
  int64_t query_block, key_block;
};

// The part [low, high) of key block `block` that a query sees; empty when low >= high.
struct KeySpan {
  int64_t low, high;
};
inline KeySpan SpanInBlock(const View& begin, const View& end, int64_t query, int64_t block,
                           const AttentionShape& shape) {
  const int64_t first = block * shape.keys, size = std::min(shape.keys, shape.m - first);
  return {std::clamp<int64_t>(begin.as<int32_t>()[query] - first, 0, size),
          std::clamp<int64_t>(end.as<int32_t>()[query] - first, 0, size)};
}

// Does a query of block `query_block` see a key of block `key_block`?
inline bool BlocksMeet(const View& begin, const View& end, int64_t query_block, int64_t key_block,
                       const AttentionShape& shape) {
  const int64_t first = query_block * shape.tokens;
  const int64_t last = std::min(shape.n, first + shape.tokens);
  for (int64_t i = first; i < last; ++i) {
    const KeySpan span = SpanInBlock(begin, end, i, key_block, shape);
    if (span.low < span.high) return true;
  }
  return false;
}

// Widens a span to whole lanes, with scores of -infinity for what it did not hold: loops over it
// then have no remainder, which would cost more than the exponentials that it saves.
template <typename A>
inline KeySpan WholeLanes(KeySpan span, A* scores) {
  if (span.low >= span.high) return {0, 0};
  const KeySpan wide{span.low / kLanes * kLanes, (span.high + kLanes - 1) / kLanes * kLanes};
  std::fill(scores + wide.low, scores + span.low, -std::numeric_limits<A>::infinity());
  std::fill(scores + span.high, scores + wide.high, -std::numeric_limits<A>::infinity());
  return wide;
}

// Tokens [first, first + tokens) of x [n, all heads, width], heads [head, head + heads), as a dense
// matrix of tokens * heads rows in `scratch`, tokens behind the end as zeros. The copy pays: rows
// that lie a power of two apart share few cache sets, and products read them several times.
template <typename T>
MatrixRef LoadRows(const View& x, int64_t first, int64_t tokens, int64_t head, int64_t heads,
                   T* scratch) {
  const int64_t present = std::min(tokens, x.sizes[0] - first), width = x.sizes[2];
  const int64_t token_stride = x.strides[0], head_stride = x.strides[1];
  const T* from = x.as<T>() + first * token_stride + head * head_stride;
  for (int64_t i = 0; i < present; ++i) {
    for (int64_t j = 0; j < heads; ++j) {
      const T* row = from + i * token_stride + j * head_stride;
      std::copy(row, row + width, scratch + (i * heads + j) * width);
    }
  }
  std::fill(scratch + present * heads * width, scratch + tokens * heads * width, T());
  return {scratch, width, false};
}

inline MatrixRef Transposed(MatrixRef matrix) {
  matrix.transposed = !matrix.transposed;
  return matrix;
}

// Parts of one scratch block, each aligned to 64 bytes. Sizes are added up first, or by a layout of
// no memory, then taken in order.
class ScratchLayout {
 public:
  template <typename T>
  static size_t Bytes(int64_t count) {
    return (count * sizeof(T) + 63) / 64 * 64;
  }
  explicit ScratchLayout(void* data) : begin_(reinterpret_cast<uintptr_t>(data)), next_(begin_) {}
  template <typename T>
  T* Take(int64_t count) {
    T* part = reinterpret_cast<T*>(next_);
    next_ += Bytes<T>(count);
    return part;
  }
  size_t bytes_taken() const { return next_ - begin_; }

 private:
  const uintptr_t begin_;
  uintptr_t next_;
};

}  // namespace trireme
