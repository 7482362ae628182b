// Token shards: files of tokenized documents.
//
//   offset  bytes
//        0      8  magic "trirtok\n"
//        8      4  version, 1
//       12      4  width of a token in bytes: 1, 2 or 4, the fewest that hold the vocabulary
//       16      8  vocabulary size, at most 2^31 - 1
//       24      8  number of tokens t
//       32      8  number of documents d
//       40     16  name of the tokenizer, filled up with zero bytes
//       56      4  CRC-32C of everything after the tokens
//       60      4  CRC-32C of bytes [0, 60)
//       64  width t  tokens, document after document
//                0 to 3 zero bytes, up to a multiple of 4
//           12 d  for each document: number of tokens (> 0), bytes of its text, DocumentHash of its
//           text
//            4 b  CRC-32C of each of the b blocks of 64 KiB that the tokens make; the last may be
//            shorter
//
// Integers are unsigned and little endian. The file ends there. Lengths, not offsets, are stored:
// documents cannot overlap, and no offset can point outside. The header and the tables are verified
// when the file is opened, a block of tokens when it is read first.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/io/file.h"
#include "data/token_corpus.h"

namespace trireme {

// Thread-safe.
class TokenShard final : public TokenCorpus {
 public:
  // DATA_LOSS naming the file and the offset when it is not a whole, sound token shard.
  static StatusOr<std::unique_ptr<TokenShard>> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::string& tokenizer() const { return tokenizer_; }
  int64_t vocabulary_size() const override { return vocabulary_size_; }
  int64_t num_tokens() const override { return num_tokens_; }
  absl::Span<const DocumentRecord> documents() const override { return documents_; }
  // DATA_LOSS when the checksum of a block does not match or a token is outside the vocabulary.
  Status Read(int64_t begin, absl::Span<int32_t> tokens) const override;

 private:
  explicit TokenShard(File file) : file_(std::move(file)) {}
  Status ReadHeader(int64_t file_size);
  Status ReadTables(int64_t file_size);
  Status ReadBytes(int64_t begin, int64_t end, char* out) const;
  Status Damaged(int64_t offset, absl::string_view what) const;

  File file_;
  std::string tokenizer_;
  int width_ = 0;
  int64_t vocabulary_size_ = 0, num_tokens_ = 0, num_documents_ = 0;
  uint32_t tables_checksum_ = 0;
  std::vector<DocumentRecord> documents_;
  std::vector<uint32_t> block_checksums_;
  std::unique_ptr<std::atomic<bool>[]> block_verified_;
};

// Writes a shard under a temporary name; Finish makes it durable and visible. Without Finish
// nothing remains. Memory: 12 bytes a document.
class TokenShardWriter {
 public:
  static StatusOr<std::unique_ptr<TokenShardWriter>> Create(const std::string& path,
                                                            absl::string_view tokenizer,
                                                            int64_t vocabulary_size);
  ~TokenShardWriter();
  TokenShardWriter(const TokenShardWriter&) = delete;
  TokenShardWriter& operator=(const TokenShardWriter&) = delete;

  // Appends a document. INVALID_ARGUMENT as MakeDocumentRecord. After any error the shard is of no
  // use.
  Status Add(absl::Span<const int32_t> tokens, absl::string_view text);
  Status Finish();

  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return documents_.size(); }

 private:
  TokenShardWriter(std::string path, File file, absl::string_view tokenizer,
                   int64_t vocabulary_size);
  // Writes the first `bytes` of pending_ as the next block.
  Status WriteBlock(size_t bytes);

  std::string path_;
  File file_;
  std::string tokenizer_;
  int64_t vocabulary_size_;
  bool finished_ = false;
  int64_t num_tokens_ = 0;
  std::vector<DocumentRecord> documents_;
  std::vector<uint32_t> block_checksums_;
  std::string pending_;  // Packed tokens that are not written yet; less than a block between calls.
};

}  // namespace trireme
