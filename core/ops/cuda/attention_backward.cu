// Attention, backward (Dao 2023, FlashAttention-2, algorithm 2): with P recomputed from the
// log-sum-exp,
//   delta = scale rowsum(dout * out),  dS = P * (scale dout v^T - delta),  dq = dS k,  dk = dS^T q,
//   dv = P^T dout.
// One kernel walks the keys of a block of rows for dq, another the rows of a block of keys, of all
// heads that read it, for dk and dv: the scores are computed twice, and no sum needs an atomic.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "core/ops/cuda/attention_backward.cuh"
#include "core/ops/cuda/attention_fma.cuh"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

// A warp a query and head.
constexpr int kDeltaThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kDeltaThreads)
    DeltaKernel(const T* out, HeadRows<const T> dout, AccOf<T>* delta, int64_t num_queries,
                int64_t h, AccOf<T> scale) {
  using A = AccOf<T>;
  const int64_t at = int64_t{blockIdx.x} * (kDeltaThreads / kWarp) + threadIdx.x / kWarp;
  if (at >= num_queries) return;
  const T* left = out + at * dout.width;
  const T* right = dout.Row(at / h, at % h);
  A sum = 0;
  for (int c = threadIdx.x % kWarp; c < dout.width; c += kWarp) {
    sum += Load(left + c) * Load(right + c);
  }
  sum = WarpReduce(sum, SumOf<A>());
  if (threadIdx.x % kWarp == 0) delta[at] = scale * sum;
}

// p and ds of a score and the product of dout and v.
template <typename A>
struct PairGradient {
  A p = 0, ds = 0;
  __device__ PairGradient(const RowState<A>& row, int key, A score, A dp, A scale) {
    if (!row.span.Holds(key)) return;
    p = exp(score * scale - row.lse);
    ds = p * (dp * scale - row.delta);
  }
};

// A block computes 64 columns of dq.
template <typename T>
__global__ void __launch_bounds__(kFmaThreads, 1) QueryGradientFma(AttentionGradients<T> grads) {
  using A = AccOf<T>;
  const AttentionOperands<T>& in = grads.in;
  const FmaShared<A> shared(SharedBytes());
  const int first = (gridDim.x - 1 - blockIdx.x) * kTile, kv_head = blockIdx.y;
  const int column0 = blockIdx.z * kFmaSide;
  const A scale = static_cast<A>(in.scale);
  const KeySpan all = SpanOfRows(in, first, kTile);
  RowState<A> rows[kFmaPart];
#pragma unroll
  for (int i = 0; i < kFmaPart; ++i) rows[i] = StateOfRow(grads, first + FmaRow() + i, kv_head);
  const auto row_of = [&](const HeadRows<const T>& x) {
    return [&in, &x, first, kv_head](int r) { return in.QueryRow(x, first + r, kv_head); };
  };

  FmaSums<A> dq;
  for (int first_key = all.low / kTile * kTile; first_key < all.high; first_key += kTile) {
    const auto key_of = [&](const HeadRows<const T>& x) {
      return [&in, &x, first_key, kv_head](int j) { return in.KeyRow(x, first_key + j, kv_head); };
    };
    FmaSums<A> scores, dp;
    FmaRowsByRows<T>(scores, shared.left, shared.right, in.q.width, row_of(in.q), key_of(in.k));
    FmaRowsByRows<T>(dp, shared.left, shared.right, in.v.width, row_of(grads.dout), key_of(in.v));
#pragma unroll
    for (int i = 0; i < kFmaPart; ++i) {
#pragma unroll
      for (int j = 0; j < kFmaPart; ++j) {
        const int column = FmaColumn() + j;
        const PairGradient<A> pair(rows[i], first_key + column, scores.at[i][j], dp.at[i][j],
                                   scale);
        shared.tile.At(column, FmaRow() + i) = pair.ds;
      }
    }
    FmaTileByRows<T>(dq, shared.tile, shared.left, column0, in.k.width, key_of(in.k));
  }
#pragma unroll
  for (int i = 0; i < kFmaPart; ++i) {
    const int row = first + FmaRow() + i;
    if (row >= in.rows()) continue;
    const int64_t at = in.QueryOf(row, kv_head);
#pragma unroll
    for (int j = 0; j < kFmaPart; ++j) {
      grads.dq.Put(at, column0 + FmaColumn() + j, dq.at[i][j]);
    }
  }
}

// A block computes 64 columns of dk and of dv. Tiles are transposed: keys down, rows across.
template <typename T>
__global__ void __launch_bounds__(kFmaThreads)
    KeyGradientsFma(AttentionGradients<T> grads, const KeySpan* spans) {
  using A = AccOf<T>;
  const AttentionOperands<T>& in = grads.in;
  const FmaShared<A> shared(SharedBytes());
  const int first_key = blockIdx.x * kTile, kv_head = blockIdx.y;
  const int column0 = blockIdx.z * kFmaSide;
  const A scale = static_cast<A>(in.scale);
  const auto key_of = [&](const HeadRows<const T>& x) {
    return [&in, &x, first_key, kv_head](int j) { return in.KeyRow(x, first_key + j, kv_head); };
  };

  FmaSums<A> dk, dv;
  for (int first = 0; first < in.rows(); first += kTile) {
    const KeySpan seen = spans[first / kTile];
    if (seen.low >= first_key + kTile || seen.high <= first_key) continue;
    const auto row_of = [&](const HeadRows<const T>& x) {
      return [&in, &x, first, kv_head](int r) { return in.QueryRow(x, first + r, kv_head); };
    };
    FmaSums<A> scores, dp;
    FmaRowsByRows<T>(scores, shared.left, shared.right, in.q.width, key_of(in.k), row_of(in.q));
    FmaRowsByRows<T>(dp, shared.left, shared.right, in.v.width, key_of(in.v), row_of(grads.dout));
#pragma unroll
    for (int j = 0; j < kFmaPart; ++j) {
      const RowState<A> row = StateOfRow(grads, first + FmaColumn() + j, kv_head);
#pragma unroll
      for (int i = 0; i < kFmaPart; ++i) {
        const PairGradient<A> pair(row, first_key + FmaRow() + i, scores.at[i][j], dp.at[i][j],
                                   scale);
        shared.tile.At(FmaColumn() + j, FmaRow() + i) = pair.p;
        dp.at[i][j] = pair.ds;
      }
    }
    FmaTileByRows<T>(dv, shared.tile, shared.left, column0, in.v.width, row_of(grads.dout));
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kFmaPart; ++j) {
#pragma unroll
      for (int i = 0; i < kFmaPart; ++i) {
        shared.tile.At(FmaColumn() + j, FmaRow() + i) = dp.at[i][j];
      }
    }
    FmaTileByRows<T>(dk, shared.tile, shared.left, column0, in.q.width, row_of(in.q));
  }
#pragma unroll
  for (int i = 0; i < kFmaPart; ++i) {
    const int key = first_key + FmaRow() + i;
    if (key >= in.m) continue;
    const int64_t at = int64_t{key} * in.num_kv_heads() + kv_head;
#pragma unroll
    for (int j = 0; j < kFmaPart; ++j) {
      const int column = column0 + FmaColumn() + j;
      grads.dk.Put(at, column, dk.at[i][j]);
      grads.dv.Put(at, column, dv.at[i][j]);
    }
  }
}

template <typename T>
void BackwardFma(Device& device, const AttentionBackwardArgs& args) {
  const AttentionGradients<T> grads(args);
  const AttentionOperands<T>& in = grads.in;
  const int num_row_tiles = NumTiles(in.rows()), widest = std::max(in.q.width, in.v.width);
  const Workspace spans(device, num_row_tiles * sizeof(KeySpan), "attention");
  LaunchKernel(device, SpansKernel<T>, {dim3(num_row_tiles), dim3(kWarp)}, in, kTile,
               spans.as<KeySpan>());
  const auto shape = [&](int tiles, int width) -> LaunchShape {
    return {dim3(tiles, in.num_kv_heads(), NumTiles(width, kFmaSide)), dim3(kFmaThreads),
            FmaShared<AccOf<T>>::kBytes};
  };
  LaunchKernel(device, QueryGradientFma<T>, shape(num_row_tiles, in.q.width), grads);
  LaunchKernel(device, KeyGradientsFma<T>, shape(NumTiles(in.m), widest), grads,
               spans.as<KeySpan>());
}

}  // namespace

void AttentionDeltaCuda(Device& device, const AttentionDeltaArgs& args) {
  const int64_t h = args.out.sizes[1], num_queries = args.out.sizes[0] * h;
  DispatchFloating(args.out.dtype, "attention", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    LaunchKernel(device, DeltaKernel<T>,
                 OverElements(num_queries * kWarp, kDeltaThreads, kMaxGridX), args.out.as<T>(),
                 HeadRows<const T>(args.dout), args.delta.as<A>(), num_queries, h,
                 static_cast<A>(args.scale));
  });
}

void AttentionBackwardCuda(Device& device, const AttentionBackwardArgs& args) {
  const int64_t widest = std::max(args.q.sizes[2], args.v.sizes[2]);
  if (args.q.dtype == DType::kBF16 && widest <= 256) return AttentionBackwardMma(device, args);
  DispatchFloating(args.q.dtype, "attention",
                   [&](auto tag) { BackwardFma<typename decltype(tag)::type>(device, args); });
}

}  // namespace trireme
