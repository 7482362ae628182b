// The pairs of blocks of attention_backward.cc in register tiles.
//
// P and dS of a pair are kept twice over, as the packed operands of the products that read them: by
// queries (P and dS, for dv and dk), and dS by keys (for dq). Tiles of 14 queries by 32 keys that
// see nothing of each other are zeros; sums run from the first to the last tile that is not.
#include <cstring>
#include <type_traits>

#include "core/ops/cpu/attention_tiles.h"
#include "core/ops/cpu/element.h"
#include "core/ops/cpu/panel_packing.h"
#include "core/ops/cpu/register_tile.h"

TRIREME_AVX512_BEGIN

namespace trireme {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A matrix packed into panels along its columns: [panel][step][width].
struct Packed {
  float* data;
  int64_t words;  // Steps.
  int64_t width;

  const float* At(int64_t panel, int64_t word = 0) const {
    return data + (panel * words + word) * width;
  }
};

template <typename T>
class TilePair {
 public:
  TilePair(const AttentionBackwardArgs& args, const AttentionShape& shape, void* scratch)
      : args_(args),
        s_(shape),
        tiles_(CeilDiv(s_.rows, kTileRows)),
        key_panels_(CeilDiv(s_.keys, kTileColumns)) {
    ScratchLayout layout(scratch);
    const int64_t row_words = CeilDiv(s_.rows, kPerWord), key_words = CeilDiv(s_.keys, kPerWord);
    const int64_t d_words = CeilDiv(s_.d, kPerWord), dv_words = CeilDiv(s_.dv, kPerWord);
    const auto packed = [&](int64_t lines, int64_t words, int64_t width) {
      const int64_t panels = CeilDiv(lines, width);
      return Packed{layout.Take<float>(panels * words * width), words, width};
    };
    q_ = layout.Take<T>(s_.rows * s_.d);
    dout_ = layout.Take<T>(s_.rows * s_.dv);
    k_ = layout.Take<T>(s_.keys * s_.d);
    v_ = layout.Take<T>(s_.keys * s_.dv);
    q_rows_ = packed(s_.rows, d_words, kTileRows);
    dout_rows_ = packed(s_.rows, dv_words, kTileRows);
    keys_ = packed(s_.keys, d_words, kTileColumns);
    values_ = packed(s_.keys, dv_words, kTileColumns);
    q_columns_ = packed(s_.d, row_words, kTileColumns);
    dout_columns_ = packed(s_.dv, row_words, kTileColumns);
    k_columns_ = packed(s_.d, key_words, kTileColumns);
    ds_rows_ = packed(s_.rows, key_words, kTileRows);
    p_ = layout.Take<float>(row_words * s_.keys);
    ds_ = layout.Take<float>(row_words * s_.keys);
    ds_plain_ = layout.Take<T>(s_.rows * s_.keys);
    grad_ = layout.Take<float>(kTileRows * kTileColumns);
    rows_ = layout.Take<Row>(tiles_ * kTileRows);
    seen_ = layout.Take<bool>(tiles_ * key_panels_);
    scratch_bytes_ = layout.bytes_taken();
  }
  size_t scratch_bytes() const { return scratch_bytes_; }

  void Run(const BlockPair& pair, int64_t kv_head, float* dq, float* dk, float* dv) {
    if (pair.key_block != key_block_) LoadKeys(pair.key_block, kv_head);
    LoadQueries(pair, kv_head);
    for (int64_t i = 0; i < tiles_; ++i) {
      for (int64_t j = 0; j < key_panels_; ++j) ScoreTile(i, j);
    }
    AddKeyGradients(dk, dv, kv_head);
    AddQueryGradients(pair, dq, kv_head);
  }

 private:
  static constexpr bool kPairs = std::is_same_v<T, bfloat16>;
  static constexpr int64_t kPerWord = kPairs ? 2 : 1;

  struct Row {
    float lse, delta;
    int64_t begin, end;  // Keys of the block.
  };

  template <int kWidth>
  static void Pack(const T* rows, int64_t ld, bool k_contiguous, int64_t lines, int64_t k,
                   const Packed& to) {
    const PanelSource source{reinterpret_cast<const char*>(rows), ld, k_contiguous, lines};
    for (int64_t panel = 0; panel * kWidth < lines; ++panel) {
      PackPanel<kPairs, kWidth>(source, panel * kWidth, 0, k,
                                to.data + panel * to.words * to.width);
    }
  }

  void LoadKeys(int64_t key_block, int64_t kv_head) {
    key_block_ = key_block;
    const int64_t first = key_block * s_.keys;
    LoadRows(args_.k, first, s_.keys, kv_head, 1, k_);
    LoadRows(args_.v, first, s_.keys, kv_head, 1, v_);
    Pack<kTileColumns>(k_, s_.d, true, s_.keys, s_.d, keys_);
    Pack<kTileColumns>(v_, s_.dv, true, s_.keys, s_.dv, values_);
    Pack<kTileColumns>(k_, s_.d, false, s_.d, s_.keys, k_columns_);
  }

  void LoadQueries(const BlockPair& pair, int64_t kv_head) {
    const int64_t first = pair.query_block * s_.tokens, head = kv_head * s_.heads;
    LoadRows(args_.q, first, s_.tokens, head, s_.heads, q_);
    LoadRows(args_.dout, first, s_.tokens, head, s_.heads, dout_);
    Pack<kTileRows>(q_, s_.d, true, s_.rows, s_.d, q_rows_);
    Pack<kTileRows>(dout_, s_.dv, true, s_.rows, s_.dv, dout_rows_);
    Pack<kTileColumns>(q_, s_.d, false, s_.d, s_.rows, q_columns_);
    Pack<kTileColumns>(dout_, s_.dv, false, s_.dv, s_.rows, dout_columns_);
    for (int64_t row = 0; row < tiles_ * kTileRows; ++row) {
      const int64_t token = first + row / s_.heads;
      rows_[row] = {};
      if (row >= s_.rows || token >= s_.n) continue;
      const int64_t at = token * s_.h + head + row % s_.heads;
      const KeySpan span = SpanInBlock(args_.begin, args_.end, token, pair.key_block, s_);
      rows_[row] = {args_.lse.as<float>()[at], args_.delta.as<float>()[at], span.low,
                    std::max(span.low, span.high)};
    }
  }

  // P and dS of one tile.
  void ScoreTile(int64_t i, int64_t j) {
    const Row* rows = rows_ + i * kTileRows;
    const int64_t first = j * kTileColumns, last = first + kTileColumns;
    bool any = false, all = true;
    for (int r = 0; r < kTileRows; ++r) {
      any |= std::max(rows[r].begin, first) < std::min(rows[r].end, last);
      all &= rows[r].begin <= first && rows[r].end >= last;
    }
    seen_[i * key_panels_ + j] = any;
    __m512 p[kTileRows][2], ds[kTileRows][2];
    Clear(p);
    Clear(ds);
    if (any) Exponentials(i, j, all, p);
    if (any) ScoreGradients(i, j, p, ds);
    StoreWords(i, first, p, p_);
    StoreWords(i, first, ds, ds_);
    StorePlain(i, first, ds);
  }

  [[gnu::noinline]] void Exponentials(int64_t i, int64_t j, bool all, __m512 (&p)[kTileRows][2]) {
    __m512 sum[kTileRows][2];
    Clear(sum);
    MultiplyPanels<kPairs, kTileRows>(keys_.words, q_rows_.At(i), kTileRows, keys_.At(j),
                                      kTileColumns, sum);
    const __m512 scale = _mm512_set1_ps(static_cast<float>(args_.scale));
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      const Row& row = rows_[i * kTileRows + r];
#pragma GCC unroll 2
      for (int part = 0; part < 2; ++part) {
        const int64_t first = j * kTileColumns + part * kVector;
        const __m512 e = ExpNegative(_mm512_fmsub_ps(sum[r][part], scale, _mm512_set1_ps(row.lse)));
        const __mmask16 lanes =
            all ? 0xFFFF : FirstLanes(row.end - first) & ~FirstLanes(row.begin - first);
        p[r][part] = _mm512_maskz_mov_ps(lanes, e);
      }
    }
  }

  [[gnu::noinline]] void ScoreGradients(int64_t i, int64_t j, const __m512 (&p)[kTileRows][2],
                                        __m512 (&ds)[kTileRows][2]) {
    __m512 sum[kTileRows][2];
    Clear(sum);
    MultiplyPanels<kPairs, kTileRows>(values_.words, dout_rows_.At(i), kTileRows, values_.At(j),
                                      kTileColumns, sum);
    const __m512 scale = _mm512_set1_ps(static_cast<float>(args_.scale));
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      const __m512 delta = _mm512_set1_ps(rows_[i * kTileRows + r].delta);
      ds[r][0] = p[r][0] * _mm512_fmsub_ps(sum[r][0], scale, delta);
      ds[r][1] = p[r][1] * _mm512_fmsub_ps(sum[r][1], scale, delta);
    }
  }

  // [query word, key], as the operand of sums over queries.
  void StoreWords(int64_t i, int64_t first_key, const __m512 (&x)[kTileRows][2], float* to) const {
    const int64_t first = i * kTileRows, rows = std::min<int64_t>(kTileRows, s_.rows - first);
    float* row = to + first / kPerWord * s_.keys + first_key;
    for (int64_t r = 0; r < rows; r += kPerWord, row += s_.keys) {
      for (int part = 0; part < 2; ++part) {
        // Rows behind the last are zeros.
        const __m512 word = kPairs ? PairWords(x[r][part], x[r + 1][part]) : x[r][part];
        _mm512_storeu_ps(row + part * kVector, word);
      }
    }
  }

  void StorePlain(int64_t i, int64_t first_key, const __m512 (&x)[kTileRows][2]) const {
    const int64_t first = i * kTileRows, rows = std::min<int64_t>(kTileRows, s_.rows - first);
    for (int64_t r = 0; r < rows; ++r) {
      T* row = ds_plain_ + (first + r) * s_.keys + first_key;
      for (int part = 0; part < 2; ++part) StoreVector(row + part * kVector, x[r][part]);
    }
  }
  static void StoreVector(float* to, __m512 x) { _mm512_storeu_ps(to, x); }
  static void StoreVector(bfloat16* to, __m512 x) {
    const __m256i halves = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves);
  }

  // dv += P^T dout, dk += dS^T q.
  void AddKeyGradients(float* dk, float* dv, int64_t kv_head) {
    const int64_t first_key = key_block_ * s_.keys;
    const int64_t present = std::min(s_.keys, s_.m - first_key);
    for (int64_t key = 0; key < present; key += kTileRows) {
      const int64_t num_keys = std::min<int64_t>(kTileRows, present - key);
      const int64_t panel = key / kTileColumns, last = (key + num_keys - 1) / kTileColumns;
      int64_t begin = tiles_, end = 0;
      for (int64_t i = 0; i < tiles_; ++i) {
        if (!seen_[i * key_panels_ + panel] && !seen_[i * key_panels_ + last]) continue;
        begin = std::min(begin, i);
        end = i + 1;
      }
      if (begin >= end) continue;
      const int64_t word = begin * kTileRows / kPerWord;
      const int64_t words = CeilDiv(std::min(end * kTileRows, s_.rows), kPerWord) - word;
      const auto add = [&](const float* a, const Packed& b, int64_t width, float* sum) {
        for (int64_t c = 0; c < width; c += kTileColumns) {
          AddTile<kPairs>(num_keys,
                          {words, a + word * s_.keys + key, s_.keys, b.At(c / kTileColumns, word),
                           kTileColumns},
                          sum + c, s_.g * width, std::min<int64_t>(kTileColumns, width - c),
                          /*fresh=*/false);
        }
      };
      const int64_t at = (first_key + key) * s_.g + kv_head;
      add(p_, dout_columns_, s_.dv, dv + at * s_.dv);
      add(ds_, q_columns_, s_.d, dk + at * s_.d);
    }
  }

  // dq += dS k.
  void AddQueryGradients(const BlockPair& pair, float* dq, int64_t kv_head) {
    const int64_t first = pair.query_block * s_.tokens;
    const int64_t present = std::min(s_.tokens, s_.n - first) * s_.heads;
    const PanelSource ds{reinterpret_cast<const char*>(ds_plain_), s_.keys, true, s_.rows};
    for (int64_t i = 0; i * kTileRows < present; ++i) {
      const bool* seen = seen_ + i * key_panels_;
      int64_t begin = 0, end = key_panels_;
      while (begin < end && !seen[begin]) ++begin;
      while (begin < end && !seen[end - 1]) --end;
      if (begin == end) continue;
      PackPanel<kPairs, kTileRows>(ds, i * kTileRows, begin * kTileColumns, end * kTileColumns,
                                   ds_rows_.data);
      const int64_t rows = std::min<int64_t>(kTileRows, present - i * kTileRows);
      for (int64_t c = 0; c < s_.d; c += kTileColumns) {
        AddTile<kPairs>(
            rows,
            {(end - begin) * kTileColumns / kPerWord, ds_rows_.data, kTileRows,
             k_columns_.At(c / kTileColumns, begin * kTileColumns / kPerWord), kTileColumns},
            grad_, kTileColumns, kTileColumns, /*fresh=*/true);
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t row = i * kTileRows + r;
          const int64_t at = (first + row / s_.heads) * s_.h + kv_head * s_.heads + row % s_.heads;
          AddRow(grad_ + r * kTileColumns, std::min<int64_t>(kTileColumns, s_.d - c),
                 dq + at * s_.d + c);
        }
      }
    }
  }

  static void AddRow(const float* from, int64_t count, float* to) {
    for (int part = 0; part < kTileColumns; part += kVector) {
      const __mmask16 lanes = FirstLanes(count - part);
      _mm512_mask_storeu_ps(to + part, lanes,
                            _mm512_maskz_loadu_ps(lanes, to + part) + _mm512_loadu_ps(from + part));
    }
  }

  const AttentionBackwardArgs& args_;
  const AttentionShape& s_;
  const int64_t tiles_, key_panels_;             // Of 14 queries, of 32 keys.
  T *q_, *dout_, *k_, *v_;                       // Dense.
  Packed q_rows_, dout_rows_, keys_, values_;    // Summed over the width of heads,
  Packed q_columns_, dout_columns_, k_columns_;  // over queries or keys,
  Packed ds_rows_;                               // one panel of dS over keys.
  float *p_, *ds_;                               // [query word, key]
  T* ds_plain_;                                  // [query, key]
  float* grad_;
  Row* rows_;
  bool* seen_;
  size_t scratch_bytes_;
  int64_t key_block_ = -1;
};

template <typename T>
void RunPairs(const AttentionBackwardArgs& args, const AttentionShape& shape,
              absl::Span<const BlockPair> pairs, int64_t kv_head, float* dq, float* dk, float* dv,
              void* scratch) {
  TilePair<T> tiles(args, shape, scratch);
  for (const BlockPair& pair : pairs) tiles.Run(pair, kv_head, dq, dk, dv);
}

}  // namespace

size_t BackwardTilesBytes(const AttentionBackwardArgs& args, const AttentionShape& shape) {
  return args.q.dtype == DType::kF32 ? TilePair<float>(args, shape, nullptr).scratch_bytes()
                                     : TilePair<bfloat16>(args, shape, nullptr).scratch_bytes();
}

void BackwardTiles(const AttentionBackwardArgs& args, const AttentionShape& shape,
                   absl::Span<const BlockPair> pairs, int64_t kv_head, float* dq, float* dk,
                   float* dv, void* scratch) {
  const auto run = args.q.dtype == DType::kF32 ? RunPairs<float> : RunPairs<bfloat16>;
  run(args, shape, pairs, kv_head, dq, dk, dv, scratch);
}

}  // namespace trireme

TRIREME_AVX512_END
