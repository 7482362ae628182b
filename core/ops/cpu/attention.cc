// Attention, forward: exact, by online softmax over key blocks (Dao 2023, FlashAttention-2,
// algorithm 1). Parallel over query blocks and key-value heads; each walks its key blocks in order,
// so threads never change bits. Key blocks that no query of the block sees are skipped.
#include "core/ops/attention.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "core/device/cpu/cpu_device.h"
#include "core/device/workspace.h"
#include "core/ops/cpu/attention_block.h"
#include "core/ops/cpu/attention_tiles.h"
#include "core/ops/cpu/avx512.h"
#include "core/ops/cpu/element.h"
#include "core/ops/cpu/gemm_library.h"
#include "core/ops/cpu/vector_math.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

// One query block and key-value head. T: storage, A: arithmetic.
template <typename T>
class QueryBlock {
 public:
  using A = AccOf<T>;

  static size_t ScratchBytes(const AttentionShape& s) {
    using L = ScratchLayout;
    return L::Bytes<T>(s.rows * s.d) + L::Bytes<T>(s.keys * s.d) + L::Bytes<T>(s.keys * s.dv) +
           L::Bytes<A>(s.rows * s.keys) + L::Bytes<T>(s.rows * s.keys) +
           L::Bytes<A>(s.rows * s.dv) + 2 * L::Bytes<A>(s.rows);
  }

  QueryBlock(const AttentionArgs& args, const AttentionShape& shape, void* scratch)
      : args_(args), s_(shape) {
    ScratchLayout layout(scratch);
    q_ = layout.Take<T>(s_.rows * s_.d);
    k_ = layout.Take<T>(s_.keys * s_.d);
    v_ = layout.Take<T>(s_.keys * s_.dv);
    scores_ = layout.Take<A>(s_.rows * s_.keys);
    T* p = layout.Take<T>(s_.rows * s_.keys);
    if constexpr (std::is_same_v<T, A>) {
      p_ = scores_;
    } else {
      p_ = p;
    }
    out_ = layout.Take<A>(s_.rows * s_.dv);
    max_ = layout.Take<A>(s_.rows);
    sum_ = layout.Take<A>(s_.rows);
  }

  void Run(int64_t block, int64_t kv_head, GemmLibrary& library, Device& device) {
    constexpr DType kIn = DTypeOf<T>::value, kAcc = DTypeOf<A>::value;
    const int64_t first = block * s_.tokens, present = std::min(s_.tokens, s_.n - first);
    std::fill(out_, out_ + s_.rows * s_.dv, A(0));
    std::fill(max_, max_ + s_.rows, -std::numeric_limits<A>::infinity());
    std::fill(sum_, sum_ + s_.rows, A(0));
    if (args_.resume) Resume(first, present, kv_head);
    const MatrixRef q = LoadRows(args_.q, first, s_.tokens, kv_head * s_.heads, s_.heads, q_);

    int64_t low = s_.m, high = 0;
    for (int64_t i = first; i < first + present; ++i) {
      const int64_t begin = args_.begin.as<int32_t>()[i], end = args_.end.as<int32_t>()[i];
      if (begin >= end) continue;
      low = std::min(low, std::max<int64_t>(0, begin));
      high = std::max(high, std::min(s_.m, end));
    }
    for (int64_t key_block = low / s_.keys; key_block * s_.keys < high; ++key_block) {
      if (!BlocksMeet(args_.begin, args_.end, block, key_block, s_)) continue;
      const int64_t first_key = key_block * s_.keys;
      const MatrixRef k = LoadRows(args_.k, first_key, s_.keys, kv_head, 1, k_);
      const MatrixRef v = LoadRows(args_.v, first_key, s_.keys, kv_head, 1, v_);
      library.Run(
          {kIn, kAcc, s_.rows, s_.keys, s_.d, q, Transposed(k), scores_, s_.keys, args_.scale},
          device);
      for (int64_t i = 0; i < s_.tokens; ++i) {
        const KeySpan span = i < present
                                 ? SpanInBlock(args_.begin, args_.end, first + i, key_block, s_)
                                 : KeySpan{0, 0};
        for (int64_t j = 0; j < s_.heads; ++j) SoftmaxRow(i * s_.heads + j, span);
      }
      library.Run({kIn, kAcc, s_.rows, s_.dv, s_.keys, {p_, s_.keys}, v, out_, s_.dv, 1, 1},
                  device);
    }
    WriteOut(first, present, kv_head);
  }

 private:
  // The state after earlier keys: they count as one key of score lse and value out.
  void Resume(int64_t first, int64_t present, int64_t kv_head) {
    for (int64_t i = 0; i < present; ++i) {
      const int64_t at = (first + i) * s_.h + kv_head * s_.heads;
      const A* out = args_.out.as<A>() + at * s_.dv;
      std::copy(out, out + s_.heads * s_.dv, out_ + i * s_.heads * s_.dv);
      for (int64_t j = 0; j < s_.heads; ++j) {
        const int64_t row = i * s_.heads + j;
        max_[row] = args_.lse.as<A>()[at + j];
        sum_[row] = max_[row] == -std::numeric_limits<A>::infinity() ? A(0) : A(1);
      }
    }
  }

  // scores -> p = exp(score - max), with what was summed before brought to the new maximum.
  void SoftmaxRow(int64_t row, KeySpan span) {
    A* scores = scores_ + row * s_.keys;
    T* p = p_ + row * s_.keys;
    const auto [low, high] = WholeLanes(span, scores);
    std::fill(p, p + low, T());
    std::fill(p + high, p + s_.keys, T());
    if (low == high) return;
    scores += low;
    p += low;
    const A max = ReduceRow(
        high - low, max_[row], [=](int64_t j) { return scores[j]; },
        [](A a, A b) { return a > b ? a : b; });
    const A sum = SumRow<A>(high - low, [=](int64_t j) {
      const A e = Exp(scores[j] - max);
      Store(p + j, e);
      return e;
    });
    if (max != max_[row]) {
      const A shrink = Exp(max_[row] - max);
      A* out = out_ + row * s_.dv;
#pragma omp simd
      for (int64_t c = 0; c < s_.dv; ++c) out[c] *= shrink;
      sum_[row] *= shrink;
      max_[row] = max;
    }
    sum_[row] += sum;
  }

  void WriteOut(int64_t first, int64_t present, int64_t kv_head) {
    for (int64_t i = 0; i < present; ++i) {
      for (int64_t j = 0; j < s_.heads; ++j) {
        const int64_t row = i * s_.heads + j, at = (first + i) * s_.h + kv_head * s_.heads + j;
        const A factor = sum_[row] == 0 ? A(0) : 1 / sum_[row];
        if (args_.out.dtype == DTypeOf<T>::value) {
          WriteRow(out_ + row * s_.dv, factor, args_.out.as<T>() + at * s_.dv);
        } else {
          WriteRow(out_ + row * s_.dv, factor, args_.out.as<A>() + at * s_.dv);
        }
        if (args_.lse.defined()) args_.lse.as<A>()[at] = max_[row] + std::log(sum_[row]);
      }
    }
  }

  template <typename Out>
  void WriteRow(const A* from, A factor, Out* to) {
#pragma omp simd
    for (int64_t c = 0; c < s_.dv; ++c) Store(to + c, from[c] * factor);
  }

  const AttentionArgs& args_;
  const AttentionShape& s_;
  T *q_, *k_, *v_, *p_;
  A *scores_, *out_, *max_, *sum_;
};

}  // namespace

void AttentionCpu(Device& device, const AttentionArgs& args) {
  CpuDevice& cpu = AsCpu(device);
  if (HasRegisterTiles(cpu, args.q.dtype)) return AttentionTiles(cpu, args);
  GemmLibrary& library = cpu.State<GemmLibrary>();
  const AttentionShape shape(args.q, args.k, args.v);
  DispatchFloating(args.q.dtype, "attention", [&](auto tag) {
    using T = typename decltype(tag)::type;
    cpu.ParallelFor(shape.num_query_blocks * shape.g, 1, [&](int64_t begin, int64_t end) {
      const Workspace scratch(device, QueryBlock<T>::ScratchBytes(shape), "attention");
      QueryBlock<T> block(args, shape, scratch.as<void>());
      // Neighbouring query blocks of a head read the same keys.
      for (int64_t i = begin; i < end; ++i) {
        block.Run(i % shape.num_query_blocks, i / shape.num_query_blocks, library, device);
      }
    });
  });
}

}  // namespace trireme
