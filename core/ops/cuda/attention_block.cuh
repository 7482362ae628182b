// What the attention kernels share: how a block is cut from its operands, which keys it may see,
// and how gradients are written.
//
// The queries that read one key-value head are rows, token by token and head by head within a
// token, so that a block of rows shares its keys whatever the number of heads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/ops/attention.h"
#include "core/ops/cuda/block_reduce.cuh"
#include "core/ops/cuda/element.cuh"

namespace trireme {

// A tensor [tokens, heads, width] whose rows are dense.
template <typename T>
struct HeadRows {
  T* data;
  int64_t token_stride, head_stride;
  int width;
  bool in_chunks;  // Rows may be read 16 bytes at once.

  explicit HeadRows(const View& view)
      : data(view.as<T>()),
        token_stride(view.strides[0]),
        head_stride(view.strides[1]),
        width(static_cast<int>(view.sizes[2])) {
    constexpr int kCount = 16 / sizeof(T);
    in_chunks =
        InChunks<kCount>(data, token_stride) && head_stride % kCount == 0 && width % kCount == 0;
  }
  __device__ T* Row(int64_t token, int64_t head) const {
    return data + token * token_stride + head * head_stride;
  }
};

template <typename T>
struct AttentionOperands {
  HeadRows<const T> q, k, v;
  const int32_t *begin, *end;
  int n, m, num_heads;  // Queries, keys, heads.
  int heads;            // Heads that read one key-value head.
  double scale;

  template <typename Args>
  explicit AttentionOperands(const Args& args)
      : q(args.q),
        k(args.k),
        v(args.v),
        begin(args.begin.template as<int32_t>()),
        end(args.end.template as<int32_t>()),
        n(static_cast<int>(args.q.sizes[0])),
        m(static_cast<int>(args.k.sizes[0])),
        num_heads(static_cast<int>(args.q.sizes[1])),
        heads(static_cast<int>(args.q.sizes[1] / args.k.sizes[1])),
        scale(args.scale) {}

  __host__ __device__ int num_kv_heads() const { return num_heads / heads; }
  __host__ __device__ int rows() const { return n * heads; }
  __device__ int TokenOf(int row) const { return heads == 1 ? row : row / heads; }
  __device__ int HeadOf(int row, int kv_head) const {
    return heads == 1 ? kv_head : kv_head * heads + row % heads;
  }
  // The number of row `row` among all queries and heads [n, h].
  __device__ int64_t QueryOf(int row, int kv_head) const {
    return int64_t{TokenOf(row)} * num_heads + HeadOf(row, kv_head);
  }
  // Row `row` of a tensor shaped like q; nullptr behind the last one.
  template <typename U>
  __device__ U* QueryRow(const HeadRows<U>& x, int row, int kv_head) const {
    return row < rows() ? x.Row(TokenOf(row), HeadOf(row, kv_head)) : nullptr;
  }
  template <typename U>
  __device__ U* KeyRow(const HeadRows<U>& x, int key, int kv_head) const {
    return key < m ? x.Row(key, kv_head) : nullptr;
  }
};

// Keys [low, high).
struct KeySpan {
  int low, high;
  __device__ bool Holds(int key) const { return key >= low && key < high; }
};

template <typename T>
__device__ inline KeySpan SpanOfToken(const AttentionOperands<T>& in, int token) {
  return {max(in.begin[token], 0), min(in.end[token], in.m)};
}

// What a row sees; nothing when there is no such row.
template <typename T>
__device__ inline KeySpan SpanOfRow(const AttentionOperands<T>& in, int row) {
  return row < in.rows() ? SpanOfToken(in, in.TokenOf(row)) : KeySpan{0, 0};
}

struct MinOfInt {
  __device__ int operator()(int a, int b) const { return a < b ? a : b; }
};

// The least span that holds those of rows [first, first + count); computed by a whole warp.
template <typename T>
__device__ inline KeySpan SpanOfRows(const AttentionOperands<T>& in, int first, int count) {
  const int last_token = in.TokenOf(min(first + count, in.rows()) - 1);
  KeySpan all{in.m, 0};
  for (int token = in.TokenOf(first) + threadIdx.x % kWarp; token <= last_token; token += kWarp) {
    const KeySpan span = SpanOfToken(in, token);
    if (span.low >= span.high) continue;
    all.low = min(all.low, span.low);
    all.high = max(all.high, span.high);
  }
  return {WarpReduce(all.low, MinOfInt()), WarpReduce(all.high, MaxOf<int>())};
}

// An output of type T or its accumulation type, which may be added to.
template <typename T>
struct OutputRows {
  void* data;
  int width;
  bool widened, accumulate;

  OutputRows(const View& view, bool accumulate)
      : data(view.data),
        width(static_cast<int>(view.sizes[2])),
        widened(view.dtype != DTypeOf<T>::value),
        accumulate(accumulate) {}
  __device__ void Put(int64_t row, int column, AccOf<T> value) const {
    if (column >= width) return;
    const int64_t at = row * width + column;
    if (widened || accumulate) {  // What is added to is in the accumulation type.
      AccOf<T>* sum = static_cast<AccOf<T>*>(data) + at;
      *sum = accumulate ? *sum + value : value;
    } else {
      Store(static_cast<T*>(data) + at, value);
    }
  }
};

inline constexpr int kTile = 64;  // Rows, or keys, of a block.
inline int NumTiles(int64_t size, int tile = kTile) {
  return static_cast<int>((size + tile - 1) / tile);
}

}  // namespace trireme
