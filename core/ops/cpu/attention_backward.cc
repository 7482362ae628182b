// Attention, backward (Dao 2023, FlashAttention-2, algorithm 2): with P recomputed from the
// log-sum-exp,
//   delta = scale rowsum(dout * out),  dS = P * (scale dout v^T - delta),  dq = dS k,  dk = dS^T q,
//   dv = P^T dout.
// delta is a kernel of its own: keys may come in parts.
//
// Every pair of a query block and a key block that meet adds to both sides, so the scores are
// computed once. Pairs are run in chains that share no block, one after another inside; chains run
// at once. The order of every sum is that of the plan below, so threads never change bits.
#include <algorithm>
#include <optional>
#include <type_traits>
#include <vector>

#include "core/base/log.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/kernel.h"
#include "core/device/workspace.h"
#include "core/ops/attention.h"
#include "core/ops/cpu/attention_block.h"
#include "core/ops/cpu/attention_tiles.h"
#include "core/ops/cpu/avx512.h"
#include "core/ops/cpu/element.h"
#include "core/ops/cpu/gemm_library.h"
#include "core/ops/cpu/vector_math.h"
#include "core/tensor/dispatch.h"
#include "core/tensor/kernels.h"

namespace trireme {
namespace {

constexpr int64_t kTokenGrain = 64;

// A gradient in the accumulation type: the output itself, or memory that is converted into it at
// the end.
template <typename A>
class Sum {
 public:
  // With `accumulate` it starts from what `out` holds.
  Sum(Device& device, const View& out, bool accumulate) : device_(device), sum_(out) {
    CHECK(!accumulate || out.dtype == DTypeOf<A>::value) << "gradients in a lower precision";
    if (out.dtype != DTypeOf<A>::value) {
      memory_.emplace(device, out.numel() * sizeof(A), "attention");
      sum_.data = memory_->as<void>();
      sum_.dtype = DTypeOf<A>::value;
    }
    if (!accumulate) Launch(device, &KernelTable::Fill, FillArgs{sum_, 0});
  }
  A* data() const { return sum_.as<A>(); }
  void StoreTo(const View& out) const {
    if (memory_.has_value()) Launch(device_, &KernelTable::Copy, CopyArgs{sum_, out});
  }

 private:
  Device& device_;
  View sum_;
  std::optional<Workspace> memory_;
};

template <typename T>
class PairProducts {
 public:
  using A = AccOf<T>;

  static size_t ScratchBytes(const AttentionShape& s) {
    using L = ScratchLayout;
    const int64_t widest = std::max(s.d, s.dv);
    return L::Bytes<T>(s.rows * s.d) + L::Bytes<T>(s.keys * s.d) + L::Bytes<T>(s.keys * s.dv) +
           L::Bytes<T>(s.rows * s.dv) + 2 * L::Bytes<A>(s.rows * s.keys) +
           2 * L::Bytes<T>(s.rows * s.keys) + L::Bytes<A>(std::max(s.rows, s.keys) * widest);
  }

  PairProducts(const AttentionBackwardArgs& args, const AttentionShape& shape, void* scratch)
      : args_(args), s_(shape) {
    ScratchLayout layout(scratch);
    q_ = layout.Take<T>(s_.rows * s_.d);
    k_ = layout.Take<T>(s_.keys * s_.d);
    v_ = layout.Take<T>(s_.keys * s_.dv);
    dout_ = layout.Take<T>(s_.rows * s_.dv);
    scores_ = layout.Take<A>(s_.rows * s_.keys);
    dp_ = layout.Take<A>(s_.rows * s_.keys);
    T* p = layout.Take<T>(s_.rows * s_.keys);
    T* ds = layout.Take<T>(s_.rows * s_.keys);
    if constexpr (std::is_same_v<T, A>) {
      p_ = scores_;
      ds_ = dp_;
    } else {
      p_ = p;
      ds_ = ds;
    }
    grad_ = layout.Take<A>(std::max(s_.rows, s_.keys) * std::max(s_.d, s_.dv));
  }

  // Adds the pair's part to dq [n, h, d], dk [m, g, d], dv [m, g, dv].
  void Run(const BlockPair& pair, int64_t kv_head, const A* delta, A* dq, A* dk, A* dv,
           GemmLibrary& library, Device& device) {
    constexpr DType kIn = DTypeOf<T>::value, kAcc = DTypeOf<A>::value;
    const int64_t first = pair.query_block * s_.tokens, first_key = pair.key_block * s_.keys;
    const int64_t first_head = kv_head * s_.heads;
    const int64_t present = std::min(s_.tokens, s_.n - first);
    const int64_t present_keys = std::min(s_.keys, s_.m - first_key);
    const MatrixRef q = LoadRows(args_.q, first, s_.tokens, first_head, s_.heads, q_);
    const MatrixRef dout = LoadRows(args_.dout, first, s_.tokens, first_head, s_.heads, dout_);
    const MatrixRef k = LoadRows(args_.k, first_key, s_.keys, kv_head, 1, k_);
    const MatrixRef v = LoadRows(args_.v, first_key, s_.keys, kv_head, 1, v_);
    library.Run(
        {kIn, kAcc, s_.rows, s_.keys, s_.d, q, Transposed(k), scores_, s_.keys, args_.scale},
        device);
    library.Run(
        {kIn, kAcc, s_.rows, s_.keys, s_.dv, dout, Transposed(v), dp_, s_.keys, args_.scale},
        device);
    for (int64_t i = 0; i < s_.tokens; ++i) {
      const KeySpan span = i < present
                               ? SpanInBlock(args_.begin, args_.end, first + i, pair.key_block, s_)
                               : KeySpan{0, 0};
      for (int64_t j = 0; j < s_.heads; ++j) {
        const int64_t at = std::min(first + i, s_.n - 1) * s_.h + first_head + j;
        ScoreGradientRow(i * s_.heads + j, span, args_.lse.as<A>()[at], delta[at]);
      }
    }
    const MatrixRef p{p_, s_.keys}, ds{ds_, s_.keys};
    library.Run({kIn, kAcc, s_.keys, s_.dv, s_.rows, Transposed(p), dout, grad_, s_.dv}, device);
    AddRows(dv + (first_key * s_.g + kv_head) * s_.dv, s_.g * s_.dv, s_.dv, present_keys, 1);
    library.Run({kIn, kAcc, s_.keys, s_.d, s_.rows, Transposed(ds), q, grad_, s_.d}, device);
    AddRows(dk + (first_key * s_.g + kv_head) * s_.d, s_.g * s_.d, s_.d, present_keys, 1);
    library.Run({kIn, kAcc, s_.rows, s_.d, s_.keys, ds, k, grad_, s_.d}, device);
    AddRows(dq + (first * s_.h + first_head) * s_.d, s_.h * s_.d, s_.d, present, s_.heads);
  }

 private:
  // scores, dp -> p, ds of one row; zeros outside the span.
  void ScoreGradientRow(int64_t row, KeySpan span, A lse, A delta) {
    A* scores = scores_ + row * s_.keys;
    const A* dp = dp_ + row * s_.keys;
    T* p = p_ + row * s_.keys;
    T* ds = ds_ + row * s_.keys;
    const auto [low, high] = WholeLanes(span, scores);
    for (T* values : {p, ds}) {
      std::fill(values, values + low, T());
      std::fill(values + high, values + s_.keys, T());
    }
    for (int64_t first = low; first < high; first += kLanes) {
#pragma omp simd
      for (int64_t j = first; j < first + kLanes; ++j) {
        const A e = Exp(scores[j] - lse);
        Store(ds + j, e * (dp[j] - delta));
        Store(p + j, e);
      }
    }
  }

  // Adds grad_ [tokens * heads, width] to `to`, tokens `token_stride` apart.
  void AddRows(A* to, int64_t token_stride, int64_t width, int64_t tokens, int64_t heads) {
    for (int64_t i = 0; i < tokens; ++i) {
      const A* from = grad_ + i * heads * width;
      A* sum = to + i * token_stride;
#pragma omp simd
      for (int64_t c = 0; c < heads * width; ++c) sum[c] += from[c];
    }
  }

  const AttentionBackwardArgs& args_;
  const AttentionShape& s_;
  T *q_, *k_, *v_, *dout_, *p_, *ds_;
  A *scores_, *dp_, *grad_;
};

using Chain = std::vector<BlockPair>;
using Phase = std::vector<Chain>;  // Its chains share no block.

// One phase, when the key ranges fall apart into enough groups (the samples of a micro-batch): a
// chain per group, which keeps the sums of few blocks in the cache. Otherwise rounds of single
// pairs: in round r key block j meets query block j + r, modulo their number.
std::vector<Phase> PlanPairs(const AttentionBackwardArgs& args, const AttentionShape& s) {
  constexpr int64_t kEnoughChains = 16;
  Phase groups;
  int64_t reach = -1;  // The last query block of the current group.
  for (int64_t j = 0; j < s.num_key_blocks; ++j) {
    bool first = true;
    for (int64_t i = 0; i < s.num_query_blocks; ++i) {
      if (!BlocksMeet(args.begin, args.end, i, j, s)) continue;
      if (first && i > reach) groups.emplace_back();
      first = false;
      reach = std::max(reach, i);
      groups.back().push_back({i, j});
    }
  }
  if (static_cast<int64_t>(groups.size()) * s.g >= kEnoughChains) return {groups};

  const int64_t modulus = std::max(s.num_query_blocks, s.num_key_blocks);
  std::vector<Phase> rounds(modulus);
  for (const Chain& group : groups) {
    for (const BlockPair& pair : group) {
      rounds[(pair.query_block - pair.key_block + modulus) % modulus].push_back({pair});
    }
  }
  return rounds;
}

template <typename A>
struct Gradients {
  A *dq, *dk, *dv;
};

// The chains [begin, end) of a phase, which has one for each group and key-value head.
template <typename T>
void RunChains(const AttentionBackwardArgs& args, const AttentionShape& shape, const Phase& chains,
               int64_t begin, int64_t end, const Gradients<AccOf<T>>& sums, Device& device) {
  using A = AccOf<T>;
  if constexpr (std::is_same_v<A, float>) {
    if (HasRegisterTiles(AsCpu(device), args.q.dtype)) {
      const Workspace scratch(device, BackwardTilesBytes(args, shape), "attention");
      for (int64_t i = begin; i < end; ++i) {
        BackwardTiles(args, shape, chains[i / shape.g], i % shape.g, sums.dq, sums.dk, sums.dv,
                      scratch.as<void>());
      }
      return;
    }
  }
  GemmLibrary& library = AsCpu(device).State<GemmLibrary>();
  const Workspace scratch(device, PairProducts<T>::ScratchBytes(shape), "attention");
  PairProducts<T> products(args, shape, scratch.as<void>());
  for (int64_t i = begin; i < end; ++i) {
    for (const BlockPair& pair : chains[i / shape.g]) {
      products.Run(pair, i % shape.g, args.delta.as<A>(), sums.dq, sums.dk, sums.dv, library,
                   device);
    }
  }
}

}  // namespace

void AttentionDeltaCpu(Device& device, const AttentionDeltaArgs& args) {
  const int64_t n = args.out.sizes[0], h = args.out.sizes[1], dv = args.out.sizes[2];
  DispatchFloating(args.out.dtype, "attention", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    AsCpu(device).ParallelFor(n, kTokenGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = 0; j < h; ++j) {
          const T* out = args.out.as<T>() + (i * h + j) * dv;
          const T* dout = args.dout.as<T>() + i * args.dout.strides[0] + j * args.dout.strides[1];
          const A sum = SumRow<A>(dv, [=](int64_t c) { return Load(out + c) * Load(dout + c); });
          args.delta.as<A>()[i * h + j] = static_cast<A>(args.scale) * sum;
        }
      }
    });
  });
}

void AttentionBackwardCpu(Device& device, const AttentionBackwardArgs& args) {
  CpuDevice& cpu = AsCpu(device);
  const AttentionShape shape(args.q, args.k, args.v);
  DispatchFloating(args.q.dtype, "attention", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const Sum<A> dq(device, args.dq, args.accumulate), dk(device, args.dk, args.accumulate),
        dv(device, args.dv, args.accumulate);
    for (const Phase& chains : PlanPairs(args, shape)) {
      cpu.ParallelFor(chains.size() * shape.g, 1, [&](int64_t begin, int64_t end) {
        RunChains<T>(args, shape, chains, begin, end, {dq.data(), dk.data(), dv.data()}, device);
      });
    }
    dq.StoreTo(args.dq);
    dk.StoreTo(args.dk);
    dv.StoreTo(args.dv);
  });
}

}  // namespace trireme
