// Legend: b sequences, n tokens, h heads, g key-value heads, d head width.
#include "models/attention/kv_cache.h"

#include <algorithm>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

constexpr int64_t kLeastCapacity = 16;

// Rows [begin, begin + length) of sequence i: [1, length, g, d].
Tensor RowsOf(const Tensor& cache_btgd, int64_t i, int64_t begin, int64_t length) {
  return Slice(Slice(cache_btgd, 0, i, 1), 1, begin, length);
}

// All sequences one behind the other.
Tensor Packed(const Tensor& cache_btgd) {
  const Shape& shape = cache_btgd.shape();
  return Reshape(cache_btgd, {shape[0] * shape[1], shape[2], shape[3]});
}

}  // namespace

Tensor KvCache::Attend(const Tensor& q_nhd, const Tensor& k_ngd, const Tensor& v_ngd,
                       absl::Span<const Segment> segments, int64_t window, double scale) {
  const NoGrad no_grad;
  Reserve(k_ngd, v_ngd, segments, window);
  const int64_t capacity = keys_.dim(1);
  std::vector<int32_t> begins, ends;
  int64_t row = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    const int64_t cached = segments[i].begin - first_[i], length = segments[i].length;
    for (const auto& [cache, added] : {std::pair(keys_, k_ngd), std::pair(values_, v_ngd)}) {
      const Tensor rows = Slice(added, 0, row, length);
      RowsOf(cache, i, cached, length)
          .CopyFrom(Reshape(rows, {1, length, rows.dim(1), rows.dim(2)}));
    }
    for (int64_t end = cached + 1; end <= cached + length; ++end) {
      const int64_t begin = window > 0 ? std::max<int64_t>(0, end - window) : 0;
      begins.push_back(static_cast<int32_t>(i * capacity + begin));
      ends.push_back(static_cast<int32_t>(i * capacity + end));
    }
    row += length;
  }
  KeyRanges ranges;
  ranges.begin = Tensor::FromHost<int32_t>(q_nhd.device(), {row}, begins);
  ranges.end = Tensor::FromHost<int32_t>(q_nhd.device(), {row}, ends);
  ranges.none = row == 0;
  return Attention(q_nhd, Packed(keys_), Packed(values_), ranges, scale);
}

void KvCache::Reserve(const Tensor& k, const Tensor& v, absl::Span<const Segment> segments,
                      int64_t window) {
  if (first_.empty()) {
    for (const Segment& segment : segments) first_.push_back(segment.begin);
  }
  CHECK_EQ(first_.size(), segments.size()) << "sequences";
  std::vector<int64_t> kept;  // Rows that later tokens see.
  int64_t needed = 0, least = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    const int64_t cached = segments[i].begin - first_[i];
    CHECK_GE(cached, 0) << "sequence " << i << " goes back";
    kept.push_back(window > 0 ? std::min(window - 1, cached) : cached);
    needed = std::max(needed, cached + segments[i].length);
    least = std::max(least, kept.back() + segments[i].length);
  }
  if (keys_.defined() && needed <= keys_.dim(1)) return;
  // Doubled, so that each row is moved a few times at most; without what no window reaches any
  // more.
  const int64_t capacity = std::max(kLeastCapacity, 2 * least);
  for (auto& [cache, rows] : {std::pair(&keys_, k), std::pair(&values_, v)}) {
    // Zeros: rows behind the end of a sequence have no weight, but NaN times zero would be NaN.
    const Tensor larger = Tensor::Zeros(
        rows.device(), {static_cast<int64_t>(segments.size()), capacity, rows.dim(1), rows.dim(2)},
        rows.dtype(), MemoryKind::kActivations, "key-value cache");
    for (size_t i = 0; i < segments.size(); ++i) {
      const int64_t cached = segments[i].begin - first_[i];
      if (kept[i] == 0) continue;
      RowsOf(larger, i, 0, kept[i]).CopyFrom(RowsOf(*cache, i, cached - kept[i], kept[i]));
    }
    *cache = larger;
  }
  for (size_t i = 0; i < segments.size(); ++i) first_[i] = segments[i].begin - kept[i];
}

int64_t KvCache::bytes() const {
  int64_t bytes = 0;
  for (const Tensor& x : {keys_, values_}) {
    if (x.defined()) bytes += x.numel() * DTypeSize(x.dtype());
  }
  return bytes;
}

}  // namespace trireme
