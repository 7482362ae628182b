// Causal, document and sliding-window masks as ranges of packed keys. A query at position p of a
// sample, whose document begins at b, sees the keys of that sample at positions [max(b, p + 1 -
// window), p]. Wherever the keys of a sample lie in order of position, those are one range.
#include <algorithm>
#include <map>
#include <vector>

#include "core/base/log.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

// The keys of one sample: `runs` in order of position, packed from key `first` on.
struct SampleKeys {
  int64_t first;
  std::vector<Segment> runs;

  // The first key at `position` or behind it.
  int64_t LowerBound(int64_t position) const {
    int64_t key = first;
    for (const Segment& run : runs) {
      key += std::clamp<int64_t>(position - run.begin, 0, run.length);
    }
    return key;
  }
};

std::map<int64_t, SampleKeys> KeysBySample(absl::Span<const Segment> keys) {
  std::map<int64_t, SampleKeys> samples;
  int64_t packed = 0;
  const Segment* previous = nullptr;
  for (const Segment& segment : keys) {
    const auto [it, is_new] = samples.try_emplace(segment.sample, SampleKeys{packed, {}});
    CHECK(is_new || (previous->sample == segment.sample &&
                     previous->begin + previous->length <= segment.begin))
        << "segments of sample " << segment.sample << " are not neighbours in order";
    it->second.runs.push_back(segment);
    packed += segment.length;
    previous = &segment;
  }
  return samples;
}

}  // namespace

KeyRanges CausalKeyRanges(const TokenLayout& layout, int64_t window) {
  return CausalKeyRanges(layout, layout.segments, window);
}

KeyRanges CausalKeyRanges(const TokenLayout& layout, absl::Span<const Segment> keys,
                          int64_t window) {
  const std::vector<double> document_begin = layout.document_begin.ToVector();
  const size_t n = document_begin.size();
  const std::map<int64_t, SampleKeys> samples = KeysBySample(keys);
  std::vector<int32_t> begin(n, 0), end(n, 0);
  size_t i = 0;
  for (const Segment& segment : layout.segments) {
    const auto it = samples.find(segment.sample);
    for (int64_t p = segment.begin; p < segment.begin + segment.length; ++p, ++i) {
      CHECK_LT(i, n) << "document starts in the segments of a layout";
      if (it == samples.end()) continue;
      const int64_t first = static_cast<int64_t>(document_begin[i]);
      const int64_t oldest = window > 0 ? std::max(first, p + 1 - window) : first;
      begin[i] = static_cast<int32_t>(it->second.LowerBound(oldest));
      end[i] = static_cast<int32_t>(it->second.LowerBound(p + 1));
    }
  }
  CHECK_EQ(i, n) << "document starts in the segments of a layout";
  Device& device = layout.document_begin.device();
  const Shape shape = {static_cast<int64_t>(n)};
  return {Tensor::FromHost<int32_t>(device, shape, begin),
          Tensor::FromHost<int32_t>(device, shape, end)};
}

}  // namespace trireme
