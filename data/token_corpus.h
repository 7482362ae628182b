// A sequence of documents as tokens, on disk or in memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/status.h"

namespace trireme {

// What is known of a document without reading it. Documents lie one after another: lengths are
// enough, and cannot overlap.
struct DocumentRecord {
  uint32_t num_tokens;  // > 0.
  uint32_t num_bytes;   // Of its text.
  uint32_t hash;        // DocumentHash of its text: the split does not depend on the tokenizer.
};

uint32_t DocumentHash(absl::string_view text);

// Bytes of text that tokens [begin, end) of a document stand for. They are spread evenly, with sums
// that are exact over a whole document, and exact everywhere when tokens are bytes.
inline int64_t BytesOfTokens(const DocumentRecord& document, uint64_t begin, uint64_t end) {
  const uint64_t n = document.num_tokens, bytes = document.num_bytes;  // Below 2^32 each.
  return static_cast<int64_t>(bytes * end / n - bytes * begin / n);
}

// Thread-safe.
class TokenCorpus {
 public:
  virtual ~TokenCorpus() = default;
  virtual int64_t vocabulary_size() const = 0;
  virtual int64_t num_tokens() const = 0;
  virtual absl::Span<const DocumentRecord> documents() const = 0;
  // Tokens [begin, begin + tokens.size()), each in [0, vocabulary_size). CHECKs the range.
  virtual Status Read(int64_t begin, absl::Span<int32_t> tokens) const = 0;
};

// Tokens are stored in 1, 2 or 4 bytes, the fewest that hold the vocabulary.
int TokenWidth(int64_t vocabulary_size);
void PackTokens(absl::Span<const int32_t> tokens, int width, std::string* out);
void UnpackTokens(const char* packed, int width, absl::Span<int32_t> tokens);

class MemoryCorpus final : public TokenCorpus {
 public:
  explicit MemoryCorpus(int64_t vocabulary_size)
      : vocabulary_size_(vocabulary_size), width_(TokenWidth(vocabulary_size)) {}

  // INVALID_ARGUMENT when the document is empty or longer than 2^32 - 1.
  Status Add(absl::Span<const int32_t> tokens, absl::string_view text);

  int64_t vocabulary_size() const override { return vocabulary_size_; }
  int64_t num_tokens() const override { return packed_.size() / width_; }
  absl::Span<const DocumentRecord> documents() const override { return documents_; }
  Status Read(int64_t begin, absl::Span<int32_t> tokens) const override;

 private:
  int64_t vocabulary_size_;
  int width_;
  std::string packed_;
  std::vector<DocumentRecord> documents_;
};

// The record of a document, or INVALID_ARGUMENT when its lengths do not fit or a token is not in
// [0, vocabulary_size).
StatusOr<DocumentRecord> MakeDocumentRecord(absl::Span<const int32_t> tokens,
                                            absl::string_view text, int64_t vocabulary_size);

}  // namespace trireme
