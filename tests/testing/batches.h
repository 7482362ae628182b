// Small batches of packed documents, a function of their lengths and a seed.
#pragma once

#include <vector>

#include "core/base/rng.h"
#include "core/batch.h"

namespace trireme::testing {

// One segment (a sample each) per entry of `samples`; each lists the lengths of its documents.
// Tokens are below vocab_size; the last token of a document has no label.
inline HostBatch PackedDocuments(const std::vector<std::vector<int64_t>>& samples,
                                 int64_t vocab_size, uint64_t seed, int64_t first_sample = 0) {
  HostBatch batch;
  for (size_t s = 0; s < samples.size(); ++s) {
    const int64_t sample = first_sample + static_cast<int64_t>(s);
    const RngKey key = MakeRngKey(seed, "packed documents", sample);
    Segment segment{sample, 0, 0};
    for (const int64_t length : samples[s]) {
      for (int64_t i = 0; i < length; ++i) {
        const auto token = [&](int64_t at) {
          return static_cast<int32_t>(Philox(key, segment.length + at)[0] % vocab_size);
        };
        batch.tokens.push_back(token(i));
        batch.labels.push_back(i + 1 < length ? token(i + 1) : kIgnoredLabel);
        batch.label_bytes.push_back(i + 1 < length);
      }
      batch.documents.push_back({sample, segment.length, length});
      segment.length += length;
    }
    batch.segments.push_back(segment);
  }
  return batch;
}

}  // namespace trireme::testing
