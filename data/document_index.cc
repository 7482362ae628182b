#include "data/document_index.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"

namespace trireme {
namespace {

constexpr int64_t kDocumentsPerLandmark = 32;
constexpr int64_t kRecordsPerLandmark = 1024;

}  // namespace

DocumentIndex::DocumentIndex(std::vector<const TokenCorpus*> corpora, uint64_t hash_begin,
                             uint64_t hash_end)
    : corpora_(std::move(corpora)), hash_begin_(hash_begin), hash_end_(hash_end) {
  for (int corpus = 0; corpus < static_cast<int>(corpora_.size()); ++corpus) {
    const absl::Span<const DocumentRecord> documents = corpora_[corpus]->documents();
    int64_t token = 0, last_landmark = -kRecordsPerLandmark, since_landmark = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(documents.size()); ++i) {
      if (Holds(documents[i])) {
        if (since_landmark == kDocumentsPerLandmark || i - last_landmark >= kRecordsPerLandmark) {
          landmarks_.push_back({num_tokens_, token, i, corpus, landmarks_.size()});
          last_landmark = i;
          since_landmark = 0;
        }
        ++since_landmark;
        ++num_documents_;
        num_tokens_ += documents[i].num_tokens;
      }
      token += documents[i].num_tokens;
    }
  }
}

DocumentIndex::Cursor DocumentIndex::Find(int64_t position) const {
  CHECK(position >= 0 && position < num_tokens_) << "token " << position << " of " << num_tokens_;
  const auto after = std::upper_bound(
      landmarks_.begin(), landmarks_.end(), position,
      [](int64_t value, const Cursor& landmark) { return value < landmark.begin; });
  Cursor cursor = *(after - 1);
  while (cursor.begin + record(cursor).num_tokens <= position) Next(&cursor);
  return cursor;
}

void DocumentIndex::Next(Cursor* cursor) const {
  cursor->begin += record(*cursor).num_tokens;
  CHECK_LT(cursor->begin, num_tokens_);
  const size_t following = cursor->landmark + 1;
  if (following < landmarks_.size() && landmarks_[following].begin == cursor->begin) {
    *cursor = landmarks_[following];
    return;
  }
  do {
    cursor->token += record(*cursor).num_tokens;
    ++cursor->document;
  } while (!Holds(record(*cursor)));
}

}  // namespace trireme
