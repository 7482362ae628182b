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

KeyRanges CausalKeyRanges(Device& device, const TokenLayout& layout, int64_t window) {
  return CausalKeyRanges(device, layout, layout.segments, window);
}

KeyRanges CausalKeyRanges(Device& device, const TokenLayout& layout, absl::Span<const Segment> keys,
                          int64_t window) {
  const std::map<int64_t, SampleKeys> samples = KeysBySample(keys);
  std::multimap<int64_t, Segment> documents;
  for (const Segment& document : layout.documents) documents.emplace(document.sample, document);
  int64_t n = 0;
  for (const Segment& segment : layout.segments) n += segment.length;
  std::vector<int32_t> begin(n, 0), end(n, 0);
  bool none = true;
  int64_t packed = 0;
  for (const Segment& segment : layout.segments) {
    const auto sample = samples.find(segment.sample);
    const int64_t segment_end = segment.begin + segment.length;
    int64_t num_found = 0;
    const auto [first_document, last_document] = documents.equal_range(segment.sample);
    for (auto it = first_document; it != last_document; ++it) {
      const Segment& document = it->second;
      const int64_t first = std::max(segment.begin, document.begin);
      const int64_t last = std::min(segment_end, document.begin + document.length);
      num_found += std::max<int64_t>(0, last - first);
      if (sample == samples.end()) continue;
      for (int64_t p = first; p < last; ++p) {
        const int64_t oldest =
            window > 0 ? std::max(document.begin, p + 1 - window) : document.begin;
        const int64_t i = packed + p - segment.begin;
        begin[i] = static_cast<int32_t>(sample->second.LowerBound(oldest));
        end[i] = static_cast<int32_t>(sample->second.LowerBound(p + 1));
        none = none && begin[i] == end[i];
      }
    }
    CHECK_EQ(num_found, segment.length)
        << "tokens of sample " << segment.sample << " from " << segment.begin << " in documents";
    packed += segment.length;
  }
  return {Tensor::FromHost<int32_t>(device, {n}, begin),
          Tensor::FromHost<int32_t>(device, {n}, end), none};
}

}  // namespace trireme
