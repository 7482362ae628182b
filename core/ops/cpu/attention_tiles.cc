// The forward pass of attention in register tiles, by the algorithm of attention.cc.
//
// Everything is kept transposed: a panel of 32 queries runs along the vectors, keys run along rows.
// Maxima and sums of a query then stay in its lane, and the exponentials of a tile are at once the
// packed operand of the product with v. Only tiles of 14 keys that some query of a panel sees are
// computed.
#include "core/ops/cpu/attention_tiles.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "core/device/workspace.h"
#include "core/ops/cpu/element.h"
#include "core/ops/cpu/panel_packing.h"
#include "core/ops/cpu/register_tile.h"

TRIREME_AVX512_BEGIN

namespace trireme {
namespace {

constexpr int64_t kPanel = kTileColumns;       // Queries of a panel.
constexpr int64_t kBlockPanels = 8;            // Panels that share packed keys.
constexpr int64_t kChunkKeys = 9 * kTileRows;  // Keys packed at a time.
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// The rows of q that read one key-value head are numbered token by token, head by head inside: row
// = token * heads + head. A block is kBlockPanels panels of them.
template <typename T>
class QueryRows {
 public:
  static constexpr bool kPairs = std::is_same_v<T, bfloat16>;

  explicit QueryRows(const AttentionArgs& args)
      : args_(args),
        n_(args.q.sizes[0]),
        m_(args.k.sizes[0]),
        h_(args.q.sizes[1]),
        d_(args.q.sizes[2]),
        dv_(args.v.sizes[2]),
        heads_(h_ / args.k.sizes[1]),
        d_words_((d_ + kPerWord - 1) / kPerWord),
        v_panels_((dv_ + kTileRows - 1) / kTileRows) {}

  int64_t num_blocks() const {
    const int64_t panels = (n_ * heads_ + kPanel - 1) / kPanel;
    return (panels + kBlockPanels - 1) / kBlockPanels;
  }

  size_t ScratchBytes() const {
    using L = ScratchLayout;
    return L::Bytes<T>(kPanel * d_) + L::Bytes<float>(kBlockPanels * d_words_ * kPanel) +
           L::Bytes<float>(kChunkKeys * d_words_) +
           L::Bytes<float>(v_panels_ * kChunkKeys / kPerWord * kTileRows) +
           L::Bytes<float>(kChunkKeys * kPanel) + L::Bytes<float>(kBlockPanels * dv_ * kPanel) +
           L::Bytes<Panel>(kBlockPanels);
  }

  void UseScratch(void* scratch) {
    ScratchLayout layout(scratch);
    rows_ = layout.Take<T>(kPanel * d_);
    q_ = layout.Take<float>(kBlockPanels * d_words_ * kPanel);
    k_ = layout.Take<float>(kChunkKeys * d_words_);
    v_ = layout.Take<float>(v_panels_ * kChunkKeys / kPerWord * kTileRows);
    scores_ = layout.Take<float>(kChunkKeys * kPanel);
    out_ = layout.Take<float>(kBlockPanels * dv_ * kPanel);
    panels_ = layout.Take<Panel>(kBlockPanels);
  }

  void Run(int64_t block, int64_t kv_head) {
    const int64_t first_row = block * kBlockPanels * kPanel;
    int64_t low = m_, high = 0;
    for (int64_t i = 0; i < kBlockPanels; ++i) {
      SetUp(i, first_row + i * kPanel, kv_head);
      low = std::min(low, panels_[i].low);
      high = std::max(high, panels_[i].high);
    }
    for (int64_t first = low / kChunkKeys * kChunkKeys; first < high; first += kChunkKeys) {
      bool packed = false;
      for (int64_t i = 0; i < kBlockPanels; ++i) {
        if (std::max(first, panels_[i].low) >= std::min(first + kChunkKeys, panels_[i].high)) {
          continue;
        }
        if (!packed) PackKeys(first, kv_head);
        packed = true;
        AddKeys(i, first);
      }
    }
    for (int64_t i = 0; i < kBlockPanels; ++i) WriteOut(i, first_row + i * kPanel, kv_head);
  }

 private:
  static constexpr int64_t kPerWord = kPairs ? 2 : 1;

  // What is known of 32 rows; rows behind the last see no key.
  struct Panel {
    alignas(64) float max[kPanel], sum[kPanel];
    alignas(64) int32_t begin[kPanel], end[kPanel];
    int64_t low, high;           // Some row sees keys of [low, high) only,
    int64_t all_begin, all_end;  // and all rows see [all_begin, all_end).
  };

  int64_t NumRows(int64_t first_row) const {
    return std::clamp<int64_t>(n_ * heads_ - first_row, 0, kPanel);
  }
  // The element of a dense [n, h, width] where the row begins.
  int64_t Offset(int64_t row, int64_t kv_head, int64_t width) const {
    return (row / heads_ * h_ + kv_head * heads_ + row % heads_) * width;
  }

  void SetUp(int64_t i, int64_t first_row, int64_t kv_head) {
    Panel& panel = panels_[i];
    panel = {};
    panel.low = m_;
    panel.all_end = m_;
    const int64_t rows = NumRows(first_row);
    for (int64_t j = 0; j < kPanel; ++j) {
      panel.max[j] = kMinusInfinity;
      const int64_t token = (first_row + j) / heads_;
      int64_t begin = 0, end = 0;
      if (j < rows) {
        begin = std::max<int64_t>(0, args_.begin.as<int32_t>()[token]);
        end = std::min<int64_t>(m_, args_.end.as<int32_t>()[token]);
        if (begin >= end) begin = end = 0;
      }
      panel.begin[j] = begin;
      panel.end[j] = end;
      panel.all_begin = std::max(panel.all_begin, begin);
      panel.all_end = std::min(panel.all_end, end);
      if (begin == end) continue;
      panel.low = std::min(panel.low, begin);
      panel.high = std::max(panel.high, end);
    }
    std::fill_n(out_ + i * dv_ * kPanel, dv_ * kPanel, 0.0f);
    if (rows == 0) return;
    for (int64_t j = 0; j < rows; ++j) {
      const int64_t row = first_row + j;
      const T* from = args_.q.as<T>() + row / heads_ * args_.q.strides[0] +
                      (kv_head * heads_ + row % heads_) * args_.q.strides[1];
      std::copy(from, from + d_, rows_ + j * d_);
    }
    PackPanel<kPairs, kTileColumns>({reinterpret_cast<const char*>(rows_), d_, true, rows}, 0, 0,
                                    d_, q_ + i * d_words_ * kPanel);
    if (args_.resume) Resume(i, first_row, rows, kv_head);
  }

  // The state after earlier keys: they count as one key of score lse and value out.
  void Resume(int64_t i, int64_t first_row, int64_t rows, int64_t kv_head) {
    float* out = out_ + i * dv_ * kPanel;
    for (int64_t j = 0; j < rows; ++j) {
      const float* from = args_.out.as<float>() + Offset(first_row + j, kv_head, dv_);
      for (int64_t c = 0; c < dv_; ++c) out[c * kPanel + j] = from[c];
      panels_[i].max[j] = args_.lse.as<float>()[Offset(first_row + j, kv_head, 1)];
      panels_[i].sum[j] = panels_[i].max[j] == kMinusInfinity ? 0 : 1;
    }
  }

  void PackKeys(int64_t first, int64_t kv_head) {
    const int64_t last = std::min(first + kChunkKeys, m_);
    const auto source = [&](const View& x, bool k_contiguous, int64_t lines) {
      return PanelSource{reinterpret_cast<const char*>(x.as<T>() + kv_head * x.strides[1]),
                         x.strides[0], k_contiguous, lines};
    };
    for (int64_t key = first; key < last; key += kTileRows) {
      PackPanel<kPairs, kTileRows>(source(args_.k, true, m_), key, 0, d_,
                                   k_ + (key - first) * d_words_);
    }
    for (int64_t t = 0; t < v_panels_; ++t) {
      PackPanel<kPairs, kTileRows>(source(args_.v, false, dv_), t * kTileRows, first, last,
                                   v_ + t * kChunkKeys / kPerWord * kTileRows);
    }
    present_ = last - first;
  }

  // Brings the keys [first, first + kChunkKeys) into the panel's softmax and sum.
  void AddKeys(int64_t i, int64_t first) {
    Panel& panel = panels_[i];
    const int64_t begin = (std::max(panel.low, first) - first) / kTileRows * kTileRows;
    const int64_t visible = std::min(panel.high - first, present_);
    const int64_t end = (visible + kTileRows - 1) / kTileRows * kTileRows;
    const __m512 old0 = _mm512_load_ps(panel.max), old1 = _mm512_load_ps(panel.max + kVector);
    __m512 max0 = old0, max1 = old1;
    for (int64_t key = begin; key < end; key += kTileRows) Scores(i, first, key, &max0, &max1);
    // Where no key was seen yet, any finite maximum does.
    const __m512 from0 = Finite(max0), from1 = Finite(max1);
    __m512 sum0 = _mm512_setzero_ps(), sum1 = _mm512_setzero_ps();
    Exponentials(begin, end, from0, from1, &sum0, &sum1);
    const __m512 keep0 = ExpNegative(old0 - from0), keep1 = ExpNegative(old1 - from1);
    _mm512_store_ps(panel.max, max0);
    _mm512_store_ps(panel.max + kVector, max1);
    _mm512_store_ps(panel.sum, _mm512_load_ps(panel.sum) * keep0 + sum0);
    _mm512_store_ps(panel.sum + kVector, _mm512_load_ps(panel.sum + kVector) * keep1 + sum1);

    const int64_t words = (std::min(end, present_) - begin + kPerWord - 1) / kPerWord;
    const int64_t first_word = begin / kPerWord;
    for (int64_t t = 0; t < v_panels_; ++t) {
      const float* v = v_ + (t * kChunkKeys / kPerWord + first_word) * kTileRows;
      AddTile<kPairs>(std::min<int64_t>(kTileRows, dv_ - t * kTileRows),
                      {words, v, kTileRows, scores_ + first_word * kPanel, kPanel},
                      out_ + (i * dv_ + t * kTileRows) * kPanel, kPanel, kPanel, /*fresh=*/false,
                      keep0, keep1);
    }
  }

  static __m512 Finite(__m512 x) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(kMinusInfinity), _CMP_NEQ_UQ),
                               x);
  }

  // Scores of 14 keys; those that a query does not see are -infinity.
  [[gnu::noinline]] void Scores(int64_t i, int64_t first, int64_t key, __m512* max0, __m512* max1) {
    __m512 sum[kTileRows][2];
    Clear(sum);
    MultiplyPanels<kPairs, kTileRows>(d_words_, k_ + key * d_words_, kTileRows,
                                      q_ + i * d_words_ * kPanel, kPanel, sum);
    const Panel& panel = panels_[i];
    const int32_t absolute = static_cast<int32_t>(first + key);
    const bool all = absolute >= panel.all_begin && absolute + kTileRows <= panel.all_end;
    const __m512 scale = _mm512_set1_ps(static_cast<float>(args_.scale));
    float* to = scores_ + key * kPanel;
#pragma GCC unroll 2
    for (int part = 0; part < 2; ++part) {
      const __m512i begin = _mm512_load_si512(panel.begin + part * kVector);
      const __m512i end = _mm512_load_si512(panel.end + part * kVector);
      __m512 max = part == 0 ? *max0 : *max1;
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) {
        __m512 score = sum[r][part] * scale;
        if (!all) {
          const __m512i at = _mm512_set1_epi32(absolute + r);
          const __mmask16 seen =
              _mm512_cmple_epi32_mask(begin, at) & _mm512_cmplt_epi32_mask(at, end);
          score = _mm512_mask_mov_ps(_mm512_set1_ps(kMinusInfinity), seen, score);
        }
        max = Max(max, score);
        _mm512_store_ps(to + r * kPanel + part * kVector, score);
      }
      (part == 0 ? *max0 : *max1) = max;
    }
  }

  // scores -> exp(score - max), in place; pairs of keys become words of bf16, packed together.
  void Exponentials(int64_t begin, int64_t end, __m512 max0, __m512 max1, __m512* sum0,
                    __m512* sum1) {
    for (int64_t key = begin; key < end; key += kPerWord) {
      __m512 p[kPerWord][2];
#pragma GCC unroll 2
      for (int j = 0; j < kPerWord; ++j) {
        const float* from = scores_ + (key + j) * kPanel;
        p[j][0] = ExpNegative(_mm512_load_ps(from) - max0);
        p[j][1] = ExpNegative(_mm512_load_ps(from + kVector) - max1);
        *sum0 += p[j][0];
        *sum1 += p[j][1];
      }
      float* to = scores_ + key / kPerWord * kPanel;
      if constexpr (kPairs) {
        _mm512_store_ps(to, PairWords(p[0][0], p[1][0]));
        _mm512_store_ps(to + kVector, PairWords(p[0][1], p[1][1]));
      } else {
        _mm512_store_ps(to, p[0][0]);
        _mm512_store_ps(to + kVector, p[0][1]);
      }
    }
  }

  void WriteOut(int64_t i, int64_t first_row, int64_t kv_head) {
    const Panel& panel = panels_[i];
    const float* out = out_ + i * dv_ * kPanel;
    const int64_t rows = NumRows(first_row);
    for (int64_t part = 0; part < rows; part += kVector) {
      for (int64_t c = 0; c < dv_; c += kVector) {
        Words x[kVector];
        for (int j = 0; j < kVector; ++j) {
          x[j] = c + j < dv_
                     ? reinterpret_cast<Words>(_mm512_load_ps(out + (c + j) * kPanel + part))
                     : Words{};
        }
        Transpose(x);
        for (int64_t j = 0; j < std::min<int64_t>(kVector, rows - part); ++j) {
          const float sum = panel.sum[part + j];
          const __m512 value =
              reinterpret_cast<__m512>(x[j]) * _mm512_set1_ps(sum == 0 ? 0 : 1 / sum);
          StoreOut(Offset(first_row + part + j, kv_head, dv_) + c, FirstLanes(dv_ - c), value);
        }
      }
    }
    if (!args_.lse.defined()) return;
    for (int64_t j = 0; j < rows; ++j) {
      args_.lse.as<float>()[Offset(first_row + j, kv_head, 1)] =
          panel.max[j] + std::log(panel.sum[j]);
    }
  }

  void StoreOut(int64_t at, __mmask16 lanes, __m512 value) {
    if (args_.out.dtype == DType::kF32) {
      _mm512_mask_storeu_ps(args_.out.as<float>() + at, lanes, value);
      return;
    }
    if constexpr (kPairs) {
      _mm256_mask_storeu_epi16(args_.out.as<bfloat16>() + at, lanes,
                               reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
    }
  }

  const AttentionArgs& args_;
  const int64_t n_, m_, h_, d_, dv_, heads_, d_words_, v_panels_;
  T* rows_ = nullptr;
  // Panels of q: [word, query]; of k: [word, key]; of v: [key word, column]. Scores: [key, query].
  float *q_ = nullptr, *k_ = nullptr, *v_ = nullptr, *scores_ = nullptr;
  float* out_ = nullptr;  // A panel: [column, query].
  Panel* panels_ = nullptr;
  int64_t present_ = 0;  // Keys that are packed.
};

template <typename T>
void RunBlocks(CpuDevice& device, const AttentionArgs& args) {
  const QueryRows<T> rows(args);
  const int64_t g = args.k.sizes[1];
  device.ParallelFor(rows.num_blocks() * g, 1, [&](int64_t begin, int64_t end) {
    const Workspace scratch(device, rows.ScratchBytes(), "attention");
    QueryRows<T> block = rows;
    block.UseScratch(scratch.as<void>());
    // Neighbouring blocks of a head read the same keys.
    for (int64_t i = begin; i < end; ++i) {
      block.Run(i % rows.num_blocks(), i / rows.num_blocks());
    }
  });
}

}  // namespace

void AttentionTiles(CpuDevice& device, const AttentionArgs& args) {
  args.q.dtype == DType::kF32 ? RunBlocks<float>(device, args) : RunBlocks<bfloat16>(device, args);
}

}  // namespace trireme

TRIREME_AVX512_END
