// Random access to the tokens of a split: the documents of a list of corpora whose hash is in a
// range, seen as one sequence. A sorted list holds the position of every 32nd such document (or
// fewer, so that no search scans more than about a thousand records): a few bytes a document, at
// 10^7 documents too.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "data/token_corpus.h"

namespace trireme {

class DocumentIndex {
 public:
  // Documents with hash_begin <= hash < hash_end. The corpora must outlive the index.
  DocumentIndex(std::vector<const TokenCorpus*> corpora, uint64_t hash_begin, uint64_t hash_end);

  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return num_documents_; }

  // A document of the split.
  struct Cursor {
    int64_t begin = 0;     // Position of its first token in the split.
    int64_t token = 0;     // Position of its first token in its corpus.
    int64_t document = 0;  // Its number in its corpus.
    int corpus = 0;
    size_t landmark = 0;
  };

  // The document that holds token `position` of the split; CHECKs 0 <= position < num_tokens().
  Cursor Find(int64_t position) const;
  // The following document. Call only when there is one.
  void Next(Cursor* cursor) const;

  const DocumentRecord& record(const Cursor& cursor) const {
    return corpora_[cursor.corpus]->documents()[cursor.document];
  }
  const TokenCorpus& corpus(const Cursor& cursor) const { return *corpora_[cursor.corpus]; }

 private:
  bool Holds(const DocumentRecord& record) const {
    return record.hash >= hash_begin_ && record.hash < hash_end_;
  }

  std::vector<const TokenCorpus*> corpora_;
  uint64_t hash_begin_, hash_end_;
  int64_t num_tokens_ = 0, num_documents_ = 0;
  std::vector<Cursor> landmarks_;
};

}  // namespace trireme
