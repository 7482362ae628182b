// What the two ways of computing the backward pass of attention share.
#pragma once

#include <cstdint>

#include "core/device/cuda/launch.cuh"
#include "core/ops/attention.h"
#include "core/ops/cuda/attention_block.cuh"

namespace trireme {

template <typename T>
struct AttentionGradients {
  AttentionOperands<T> in;
  HeadRows<const T> dout;
  const AccOf<T>*lse, *delta;  // [n, h]
  OutputRows<T> dq, dk, dv;

  explicit AttentionGradients(const AttentionBackwardArgs& args)
      : in(args),
        dout(args.dout),
        lse(args.lse.as<AccOf<T>>()),
        delta(args.delta.as<AccOf<T>>()),
        dq(args.dq, args.accumulate),
        dk(args.dk, args.accumulate),
        dv(args.dv, args.accumulate) {}
};

// What is known of a row before its scores.
template <typename A>
struct RowState {
  KeySpan span;
  A lse, delta;
};

template <typename T>
__device__ inline RowState<AccOf<T>> StateOfRow(const AttentionGradients<T>& grads, int row,
                                                int kv_head) {
  const KeySpan span = SpanOfRow(grads.in, row);
  if (span.low >= span.high) return {{0, 0}, 0, 0};
  const int64_t at = grads.in.QueryOf(row, kv_head);
  return {span, grads.lse[at], grads.delta[at]};
}

// spans[i]: the keys that rows [i * rows, (i + 1) * rows) see. A warp computes one.
template <typename T>
__global__ void __launch_bounds__(kWarp)
    SpansKernel(AttentionOperands<T> in, int rows, KeySpan* spans) {
  const KeySpan span = SpanOfRows(in, static_cast<int>(blockIdx.x) * rows, rows);
  if (threadIdx.x == 0) spans[blockIdx.x] = span;
}

void AttentionBackwardMma(Device& device, const AttentionBackwardArgs& args);  // bf16, up to 256.

}  // namespace trireme
