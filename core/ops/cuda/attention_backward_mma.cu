// The backward pass of attention in bf16, by tensor-core products: see attention_backward.cu.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/ops/cuda/attention_backward.cuh"
#include "core/ops/cuda/attention_mma.cuh"

namespace trireme {
namespace {

// kWidth holds the wider of d and dv. A block computes kOut columns of its gradients, from column
// kOut blockIdx.z on, of kTile rows or keys, walking kStep of the others at once.
template <int kWidth>
struct BackwardTiles {
  static constexpr int kOut = kWidth < 128 ? kWidth : 128;
  // The widest fit into the 99 KB of GPUs that have the least.
  static constexpr int kStep = kWidth < 128 ? 64 : kWidth == 128 ? 32 : 16;
  static constexpr int kBlockSize = kTile * MmaTile<kWidth>::kStride;
  static constexpr int kStepSize = kStep * MmaTile<kWidth>::kStride;
  static constexpr int64_t kBytes = 2 * MmaTile<kWidth>::Bytes(kTile) +
                                    2 * MmaTile<kWidth>::Bytes(kStep) +
                                    kStep * int64_t{sizeof(RowState<float>)};

  // Of the block: q and dout, or k and v. Of a step: the other two.
  MmaTile<kWidth> block[2], step[2];
  RowState<float>* step_rows;

  __device__ explicit BackwardTiles(void* bytes) {
    bfloat16* data = static_cast<bfloat16*>(bytes);
    block[0].data = data;
    block[1].data = data + kBlockSize;
    step[0].data = data + 2 * kBlockSize;
    step[1].data = step[0].data + kStepSize;
    step_rows = reinterpret_cast<RowState<float>*>(step[1].data + kStepSize);
  }
};

// Turns a score and the product of dout and v into p and ds. Exponents are in units of log 2.
struct ScoreGradient {
  float scale;
  __device__ void operator()(const RowState<float>& row, int key, float& score, float& dp) const {
    const bool seen = row.span.Holds(key);
    constexpr float kLog2e = std::numbers::log2e_v<float>;
    const float p = seen ? Exp2((score * scale - row.lse) * kLog2e) : 0;
    dp = seen ? p * (dp * scale - row.delta) : 0;
    score = p;
  }
};

template <int kWidth>
__global__ void __launch_bounds__(kMmaThreads)
    QueryGradientMma(AttentionGradients<bfloat16> grads) {
  using Tiles = BackwardTiles<kWidth>;
  constexpr int kOut = Tiles::kOut, kStep = Tiles::kStep;
  const AttentionOperands<bfloat16>& in = grads.in;
  const Tiles tiles(SharedBytes());
  const int lane = threadIdx.x % kWarp, warp_row = threadIdx.x / kWarp * 16;
  const int first = (gridDim.x - 1 - blockIdx.x) * kTile, kv_head = blockIdx.y;
  const int column0 = blockIdx.z * kOut;
  const ScoreGradient gradient{static_cast<float>(in.scale)};
  tiles.block[0].template Read<kTile>(in.q.width, in.q.in_chunks,
                                      [&](int r) { return in.QueryRow(in.q, first + r, kv_head); });
  tiles.block[1].template Read<kTile>(in.v.width, grads.dout.in_chunks, [&](int r) {
    return in.QueryRow(grads.dout, first + r, kv_head);
  });
  const KeySpan all = SpanOfRows(in, first, kTile);
  const int rows[2] = {first + warp_row + lane / 4, first + warp_row + lane / 4 + 8};
  const RowState<float> states[2] = {StateOfRow(grads, rows[0], kv_head),
                                     StateOfRow(grads, rows[1], kv_head)};

  float dq[kOut / 8][4] = {};
  for (int first_key = all.low / kStep * kStep; first_key < all.high; first_key += kStep) {
    __syncthreads();
    tiles.step[0].template Read<kStep>(
        in.k.width, in.k.in_chunks, [&](int j) { return in.KeyRow(in.k, first_key + j, kv_head); });
    tiles.step[1].template Read<kStep>(
        in.v.width, in.v.in_chunks, [&](int j) { return in.KeyRow(in.v, first_key + j, kv_head); });
    __syncthreads();
    float scores[kStep / 8][4] = {}, ds[kStep / 8][4] = {};
    MmaRowsByRows<kWidth, kStep>(scores, tiles.block[0], warp_row, tiles.step[0], in.q.width);
    MmaRowsByRows<kWidth, kStep>(ds, tiles.block[1], warp_row, tiles.step[1], in.v.width);
#pragma unroll
    for (int t = 0; t < kStep / 8; ++t) {
      ForEachRegister(t, [&](int i, int r, int column) {
        gradient(states[r], first_key + column, scores[t][i], ds[t][i]);
      });
    }
    MmaRegistersByTile<kWidth, kOut, kStep>(dq, ds, tiles.step[0], column0);
  }
  const int64_t queries[2] = {in.QueryOf(rows[0], kv_head), in.QueryOf(rows[1], kv_head)};
#pragma unroll
  for (int t = 0; t < kOut / 8; ++t) {
    ForEachRegister(t, [&](int i, int r, int column) {
      if (rows[r] >= in.rows()) return;
      grads.dq.Put(queries[r], column0 + column, dq[t][i]);
    });
  }
}

// Tiles are transposed: keys down, rows across.
template <int kWidth>
__global__ void __launch_bounds__(kMmaThreads)
    KeyGradientsMma(AttentionGradients<bfloat16> grads, const KeySpan* spans) {
  using Tiles = BackwardTiles<kWidth>;
  constexpr int kOut = Tiles::kOut, kStep = Tiles::kStep;
  const AttentionOperands<bfloat16>& in = grads.in;
  const Tiles tiles(SharedBytes());
  const int lane = threadIdx.x % kWarp, warp_key = threadIdx.x / kWarp * 16;
  const int first_key = blockIdx.x * kTile, kv_head = blockIdx.y;
  const int column0 = blockIdx.z * kOut;
  const ScoreGradient gradient{static_cast<float>(in.scale)};
  tiles.block[0].template Read<kTile>(
      in.k.width, in.k.in_chunks, [&](int j) { return in.KeyRow(in.k, first_key + j, kv_head); });
  tiles.block[1].template Read<kTile>(
      in.v.width, in.v.in_chunks, [&](int j) { return in.KeyRow(in.v, first_key + j, kv_head); });
  const int keys[2] = {first_key + warp_key + lane / 4, first_key + warp_key + lane / 4 + 8};

  float dk[kOut / 8][4] = {}, dv[kOut / 8][4] = {};
  for (int first = 0; first < in.rows(); first += kStep) {
    const KeySpan seen = spans[first / kStep];
    if (seen.low >= first_key + kTile || seen.high <= first_key) continue;
    __syncthreads();
    tiles.step[0].template Read<kStep>(
        in.q.width, in.q.in_chunks, [&](int r) { return in.QueryRow(in.q, first + r, kv_head); });
    tiles.step[1].template Read<kStep>(in.v.width, grads.dout.in_chunks, [&](int r) {
      return in.QueryRow(grads.dout, first + r, kv_head);
    });
    if (threadIdx.x < kStep) {
      const int row = first + static_cast<int>(threadIdx.x);
      tiles.step_rows[threadIdx.x] = StateOfRow(grads, row, kv_head);
    }
    __syncthreads();
    float p[kStep / 8][4] = {}, ds[kStep / 8][4] = {};
    MmaRowsByRows<kWidth, kStep>(p, tiles.block[0], warp_key, tiles.step[0], in.q.width);
    MmaRowsByRows<kWidth, kStep>(ds, tiles.block[1], warp_key, tiles.step[1], in.v.width);
#pragma unroll
    for (int t = 0; t < kStep / 8; ++t) {
      ForEachRegister(t, [&](int i, int r, int column) {
        gradient(tiles.step_rows[column], keys[r], p[t][i], ds[t][i]);
      });
    }
    MmaRegistersByTile<kWidth, kOut, kStep>(dv, p, tiles.step[1], column0);
    MmaRegistersByTile<kWidth, kOut, kStep>(dk, ds, tiles.step[0], column0);
  }
  const int64_t places[2] = {int64_t{keys[0]} * in.num_kv_heads() + kv_head,
                             int64_t{keys[1]} * in.num_kv_heads() + kv_head};
#pragma unroll
  for (int t = 0; t < kOut / 8; ++t) {
    ForEachRegister(t, [&](int i, int r, int column) {
      if (keys[r] >= in.m) return;
      grads.dk.Put(places[r], column0 + column, dk[t][i]);
      grads.dv.Put(places[r], column0 + column, dv[t][i]);
    });
  }
}

template <int kWidth>
void Run(Device& device, const AttentionBackwardArgs& args) {
  using Tiles = BackwardTiles<kWidth>;
  const AttentionGradients<bfloat16> grads(args);
  const AttentionOperands<bfloat16>& in = grads.in;
  const int num_steps = NumTiles(in.rows(), Tiles::kStep);
  const Workspace spans(device, num_steps * sizeof(KeySpan), "attention");
  LaunchKernel(device, SpansKernel<bfloat16>, {dim3(num_steps), dim3(kWarp)}, in, Tiles::kStep,
               spans.as<KeySpan>());
  const auto shape = [&](int tiles, int width) -> LaunchShape {
    return {dim3(tiles, in.num_kv_heads(), NumTiles(width, Tiles::kOut)), dim3(kMmaThreads),
            Tiles::kBytes};
  };
  LaunchKernel(device, QueryGradientMma<kWidth>, shape(NumTiles(in.rows()), in.q.width), grads);
  LaunchKernel(device, KeyGradientsMma<kWidth>,
               shape(NumTiles(in.m), std::max(in.q.width, in.v.width)), grads, spans.as<KeySpan>());
}

}  // namespace

void AttentionBackwardMma(Device& device, const AttentionBackwardArgs& args) {
  const int64_t widest = std::max(args.q.sizes[2], args.v.sizes[2]);
  if (widest <= 64) return Run<64>(device, args);
  if (widest <= 128) return Run<128>(device, args);
  Run<256>(device, args);
}

}  // namespace trireme
