// Attention, forward: exact, by online softmax over blocks of keys (Dao 2023, FlashAttention-2,
// algorithm 1). A block of threads computes 64 rows: bf16 by tensor cores, the other types, and
// rows of more than 256 elements, by fused multiply-adds. Blocks of keys that no row sees are
// skipped.
#include <cmath>
#include <limits>
#include <numbers>

#include "core/device/cuda/launch.cuh"
#include "core/ops/attention.h"
#include "core/ops/cuda/attention_block.cuh"
#include "core/ops/cuda/attention_fma.cuh"
#include "core/ops/cuda/attention_mma.cuh"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <typename A>
constexpr A kNone = -std::numeric_limits<A>::infinity();

// A maximum as a subtrahend: exponentials below none are zeros, not NaN.
template <typename A>
__device__ inline A Base(A max) {
  return max == kNone<A> ? A(0) : max;
}

// out [n, h, dv], dense, in T or widened; lse [n, h] or nullptr. lse_before is a copy from before
// the launch, since several blocks may read it; nullptr where there is nothing to resume.
template <typename T>
struct AttentionResult {
  OutputRows<T> out;
  AccOf<T>* lse;
  const AccOf<T>* lse_before;

  __device__ AccOf<T> Before(int64_t row, int column) const {
    return column < out.width ? static_cast<AccOf<T>*>(out.data)[row * out.width + column]
                              : AccOf<T>(0);
  }
};

// kWidth holds the wider of d and dv; a block computes columns [kOut blockIdx.z, kOut (blockIdx.z +
// 1)) of out.
template <int kWidth>
struct ForwardTiles {
  static constexpr int kOut = kWidth < 128 ? kWidth : 128;
  MmaTile<kWidth> q, k;
  MmaTile<kOut> v;

  static constexpr int64_t kBytes = 2 * MmaTile<kWidth>::Bytes(kTile) + MmaTile<kOut>::Bytes(kTile);
  __device__ explicit ForwardTiles(void* bytes)
      : q{static_cast<bfloat16*>(bytes)},
        k{q.data + kTile * MmaTile<kWidth>::kStride},
        v{k.data + kTile * MmaTile<kWidth>::kStride} {}
};

template <int kWidth>
__global__ void __launch_bounds__(kMmaThreads)
    AttentionMmaKernel(AttentionOperands<bfloat16> in, AttentionResult<bfloat16> result) {
  using Tiles = ForwardTiles<kWidth>;
  constexpr int kOut = Tiles::kOut;
  const Tiles tiles(SharedBytes());
  const int lane = threadIdx.x % kWarp, warp_row = threadIdx.x / kWarp * 16;
  // The last rows see the most keys of a causal mask: they start first.
  const int first = (gridDim.x - 1 - blockIdx.x) * kTile, kv_head = blockIdx.y;
  const int column0 = blockIdx.z * kOut;
  const float scale = static_cast<float>(in.scale * std::numbers::log2e);

  tiles.q.template Read<kTile>(in.q.width, in.q.in_chunks,
                               [&](int r) { return in.QueryRow(in.q, first + r, kv_head); });
  const KeySpan all = SpanOfRows(in, first, kTile);
  const int rows[2] = {first + warp_row + lane / 4, first + warp_row + lane / 4 + 8};
  const KeySpan spans[2] = {SpanOfRow(in, rows[0]), SpanOfRow(in, rows[1])};
  const int64_t queries[2] = {in.QueryOf(rows[0], kv_head), in.QueryOf(rows[1], kv_head)};

  float out[kOut / 8][4] = {};
  float maxima[2] = {kNone<float>, kNone<float>};  // In units of log 2.
  float sums[2] = {0, 0};                          // Of the lane's columns.
  if (result.lse_before != nullptr) {
    // Earlier keys count as one key of score lse and value out.
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (rows[i] >= in.rows()) continue;
      maxima[i] = result.lse_before[queries[i]] * std::numbers::log2e_v<float>;
      sums[i] = lane % 4 == 0 && maxima[i] != kNone<float> ? 1 : 0;
    }
#pragma unroll
    for (int t = 0; t < kOut / 8; ++t) {
      ForEachRegister(t, [&](int i, int r, int column) {
        if (rows[r] >= in.rows()) return;
        out[t][i] = result.Before(queries[r], column0 + column);
      });
    }
  }

  for (int first_key = all.low / kTile * kTile; first_key < all.high; first_key += kTile) {
    __syncthreads();
    tiles.k.template Read<kTile>(in.k.width, in.k.in_chunks,
                                 [&](int j) { return in.KeyRow(in.k, first_key + j, kv_head); });
    tiles.v.template Read<kTile>(in.v.width - column0, in.v.in_chunks, [&](int j) {
      const bfloat16* row = in.KeyRow(in.v, first_key + j, kv_head);
      return row == nullptr ? row : row + column0;
    });
    __syncthreads();
    float scores[kTile / 8][4] = {};
    MmaRowsByRows<kWidth, kTile>(scores, tiles.q, warp_row, tiles.k, in.q.width);
    const float before[2] = {maxima[0], maxima[1]};
    const bool masked = first_key < max(spans[0].low, spans[1].low) ||
                        first_key + kTile > min(spans[0].high, spans[1].high);
#pragma unroll
    for (int t = 0; t < kTile / 8; ++t) {
      ForEachRegister(t, [&](int i, int r, int column) {
        scores[t][i] *= scale;
        if (masked && !spans[r].Holds(first_key + column)) scores[t][i] = kNone<float>;
        maxima[r] = max(maxima[r], scores[t][i]);
      });
    }
    float bases[2], shrink[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      maxima[r] = WarpReduce(maxima[r], MaxOf<float>(), 4);
      bases[r] = Base(maxima[r]);
      shrink[r] = Exp2(before[r] - bases[r]);
      sums[r] *= shrink[r];
    }
#pragma unroll
    for (int t = 0; t < kTile / 8; ++t) {
      ForEachRegister(t, [&](int i, int r, int) {
        scores[t][i] = Exp2(scores[t][i] - bases[r]);
        sums[r] += scores[t][i];
      });
    }
#pragma unroll
    for (int t = 0; t < kOut / 8; ++t) {
      ForEachRegister(t, [&](int i, int r, int) { out[t][i] *= shrink[r]; });
    }
    MmaRegistersByTile<kOut, kOut, kTile>(out, scores, tiles.v, 0);
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) sums[r] = WarpReduce(sums[r], SumOf<float>(), 4);
  const float factors[2] = {sums[0] == 0 ? 0 : 1 / sums[0], sums[1] == 0 ? 0 : 1 / sums[1]};
#pragma unroll
  for (int t = 0; t < kOut / 8; ++t) {
    ForEachRegister(t, [&](int i, int r, int column) {
      if (rows[r] >= in.rows()) return;
      result.out.Put(queries[r], column0 + column, out[t][i] * factors[r]);
    });
  }
  if (result.lse == nullptr || lane % 4 != 0 || blockIdx.z != 0) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (rows[r] >= in.rows()) continue;
    result.lse[queries[r]] = (maxima[r] + log2f(sums[r])) * std::numbers::ln2_v<float>;
  }
}

// A block computes 64 columns of out.
template <typename T>
__global__ void __launch_bounds__(kFmaThreads)
    AttentionFmaKernel(AttentionOperands<T> in, AttentionResult<T> result) {
  using A = AccOf<T>;
  const FmaShared<A> shared(SharedBytes());
  const int first = (gridDim.x - 1 - blockIdx.x) * kTile, kv_head = blockIdx.y;
  const int column0 = blockIdx.z * kFmaSide;
  const A scale = static_cast<A>(in.scale);
  const KeySpan all = SpanOfRows(in, first, kTile);
  KeySpan spans[kFmaPart];
  A maxima[kFmaPart], sums[kFmaPart];
  FmaSums<A> out;
#pragma unroll
  for (int i = 0; i < kFmaPart; ++i) {
    const int row = first + FmaRow() + i;
    spans[i] = SpanOfRow(in, row);
    maxima[i] = kNone<A>;
    sums[i] = 0;
    if (result.lse_before == nullptr || row >= in.rows()) continue;
    const int64_t at = in.QueryOf(row, kv_head);
    maxima[i] = result.lse_before[at];
    sums[i] = maxima[i] == kNone<A> ? 0 : 1;
#pragma unroll
    for (int j = 0; j < kFmaPart; ++j) out.at[i][j] = result.Before(at, column0 + FmaColumn() + j);
  }

  for (int first_key = all.low / kTile * kTile; first_key < all.high; first_key += kTile) {
    FmaSums<A> scores;
    FmaRowsByRows<T>(
        scores, shared.left, shared.right, in.q.width,
        [&](int r) { return in.QueryRow(in.q, first + r, kv_head); },
        [&](int j) { return in.KeyRow(in.k, first_key + j, kv_head); });
#pragma unroll
    for (int i = 0; i < kFmaPart; ++i) {
      const A before = maxima[i];
#pragma unroll
      for (int j = 0; j < kFmaPart; ++j) {
        A& score = scores.at[i][j];
        score = spans[i].Holds(first_key + FmaColumn() + j) ? score * scale : kNone<A>;
        maxima[i] = max(maxima[i], score);
      }
      maxima[i] = WarpReduce(maxima[i], MaxOf<A>(), 16);
      const A base = Base(maxima[i]), shrink = exp(before - base);
      A sum = 0;
#pragma unroll
      for (int j = 0; j < kFmaPart; ++j) {
        const A p = exp(scores.at[i][j] - base);
        sum += p;
        out.at[i][j] *= shrink;
        shared.tile.At(FmaColumn() + j, FmaRow() + i) = p;
      }
      sums[i] = sums[i] * shrink + WarpReduce(sum, SumOf<A>(), 16);
    }
    FmaTileByRows<T>(out, shared.tile, shared.left, column0, in.v.width,
                     [&](int j) { return in.KeyRow(in.v, first_key + j, kv_head); });
  }

#pragma unroll
  for (int i = 0; i < kFmaPart; ++i) {
    const int row = first + FmaRow() + i;
    if (row >= in.rows()) continue;
    const int64_t at = in.QueryOf(row, kv_head);
    const A factor = sums[i] == 0 ? A(0) : 1 / sums[i];
#pragma unroll
    for (int j = 0; j < kFmaPart; ++j) {
      result.out.Put(at, column0 + FmaColumn() + j, out.at[i][j] * factor);
    }
    if (result.lse != nullptr && FmaColumn() == 0 && column0 == 0) {
      result.lse[at] = maxima[i] + log(sums[i]);
    }
  }
}

template <typename T>
void RunFma(Device& device, const AttentionOperands<T>& in, const AttentionResult<T>& result) {
  const dim3 grid(NumTiles(in.rows()), in.num_kv_heads(), NumTiles(in.v.width, kFmaSide));
  LaunchKernel(device, AttentionFmaKernel<T>,
               {grid, dim3(kFmaThreads), FmaShared<AccOf<T>>::kBytes}, in, result);
}

template <int kWidth>
void RunMma(Device& device, const AttentionOperands<bfloat16>& in,
            const AttentionResult<bfloat16>& result) {
  using Tiles = ForwardTiles<kWidth>;
  const dim3 grid(NumTiles(in.rows()), in.num_kv_heads(), NumTiles(in.v.width, Tiles::kOut));
  LaunchKernel(device, AttentionMmaKernel<kWidth>, {grid, dim3(kMmaThreads), Tiles::kBytes}, in,
               result);
}

}  // namespace

void AttentionCuda(Device& device, const AttentionArgs& args) {
  DispatchFloating(args.q.dtype, "attention", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const AttentionOperands<T> in(args);
    const int64_t lse_bytes = args.resume ? args.lse.numel() * sizeof(AccOf<T>) : 0;
    const Workspace lse_before(device, lse_bytes, "attention");
    if (lse_bytes > 0) {
      CUDA_OR_THROW(cudaMemcpyAsync(lse_before.as<void>(), args.lse.data, lse_bytes,
                                    cudaMemcpyDeviceToDevice, ComputeStream(device)));
    }
    const AttentionResult<T> result{OutputRows<T>(args.out, false), args.lse.as<AccOf<T>>(),
                                    args.resume ? lse_before.as<AccOf<T>>() : nullptr};
    if constexpr (std::is_same_v<T, bfloat16>) {
      const int width = std::max(in.q.width, in.v.width);
      if (width <= 64) return RunMma<64>(device, in, result);
      if (width <= 128) return RunMma<128>(device, in, result);
      if (width <= 256) return RunMma<256>(device, in, result);
    }
    RunFma(device, in, result);
  });
}

}  // namespace trireme
