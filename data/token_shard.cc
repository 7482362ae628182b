#include "data/token_shard.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/io/crc32c.h"

namespace trireme {
namespace {

constexpr char kMagic[] = "trirtok\n";
constexpr uint32_t kVersion = 1;
constexpr int64_t kBlockBytes = 64 << 10;

// The bytes of a file, as the header file says. Every field lies at a multiple of its size.
struct Header {
  char magic[8];
  uint32_t version;
  uint32_t width;
  uint64_t vocabulary_size;
  uint64_t num_tokens;
  uint64_t num_documents;
  char tokenizer[16];
  uint32_t tables_checksum;
  uint32_t header_checksum;
};
static_assert(sizeof(Header) == 64);
static_assert(sizeof(DocumentRecord) == 12);

constexpr int64_t kHeaderChecksumOffset = offsetof(Header, header_checksum);

int64_t NumBlocks(int64_t token_bytes) { return (token_bytes + kBlockBytes - 1) / kBlockBytes; }
int64_t PaddedTo4(int64_t bytes) { return (bytes + 3) / 4 * 4; }

}  // namespace

Status TokenShard::Damaged(int64_t offset, absl::string_view what) const {
  return absl::DataLossError(absl::StrCat(path(), ": byte ", offset, ": ", what));
}

StatusOr<std::unique_ptr<TokenShard>> TokenShard::Open(const std::string& path) {
  ASSIGN_OR_RETURN(File file, File::Open(path));
  ASSIGN_OR_RETURN(const int64_t file_size, file.Size());
  std::unique_ptr<TokenShard> shard(new TokenShard(std::move(file)));
  RETURN_IF_ERROR(shard->ReadHeader(file_size));
  RETURN_IF_ERROR(shard->ReadTables(file_size));
  return shard;
}

Status TokenShard::ReadHeader(int64_t file_size) {
  if (file_size < static_cast<int64_t>(sizeof(Header))) {
    return Damaged(file_size, "the file ends inside the header of a token shard");
  }
  Header header;
  RETURN_IF_ERROR(file_.ReadAt(0, &header, sizeof(header)));
  if (std::memcmp(header.magic, kMagic, sizeof(header.magic)) != 0) {
    return Damaged(0, "not a token shard");
  }
  if (header.version != kVersion) {
    return Damaged(8, absl::StrCat("version ", header.version, ", known is ", kVersion));
  }
  if (Crc32c(&header, kHeaderChecksumOffset) != header.header_checksum) {
    return Damaged(kHeaderChecksumOffset, "the checksum of the header does not match");
  }
  if (header.vocabulary_size == 0 || header.vocabulary_size > std::numeric_limits<int32_t>::max()) {
    return Damaged(16, absl::StrCat("vocabulary of ", header.vocabulary_size, " tokens"));
  }
  vocabulary_size_ = header.vocabulary_size;
  width_ = TokenWidth(vocabulary_size_);
  if (header.width != static_cast<uint32_t>(width_)) {
    return Damaged(12, absl::StrCat("tokens of ", header.width, " bytes for a vocabulary of ",
                                    vocabulary_size_));
  }
  // Bounded by the file size first, so that no product below overflows.
  const uint64_t size = file_size;
  if (header.num_tokens > size / width_) {
    return Damaged(24, absl::StrCat(header.num_tokens, " tokens in a file of ", size, " bytes"));
  }
  if (header.num_documents > size / sizeof(DocumentRecord)) {
    return Damaged(32,
                   absl::StrCat(header.num_documents, " documents in a file of ", size, " bytes"));
  }
  num_tokens_ = header.num_tokens;
  num_documents_ = header.num_documents;
  tables_checksum_ = header.tables_checksum;
  tokenizer_.assign(header.tokenizer, strnlen(header.tokenizer, sizeof(header.tokenizer)));
  return absl::OkStatus();
}

Status TokenShard::ReadTables(int64_t file_size) {
  const int64_t token_bytes = num_tokens_ * width_, num_blocks = NumBlocks(token_bytes);
  const int64_t tables = sizeof(Header) + token_bytes;
  const int64_t records = sizeof(Header) + PaddedTo4(token_bytes);
  const int64_t checksums = records + num_documents_ * sizeof(DocumentRecord);
  const int64_t end = checksums + num_blocks * sizeof(uint32_t);
  if (end != file_size) {
    return Damaged(std::min(end, file_size),
                   absl::StrCat("the file has ", file_size, " bytes, its header asks for ", end));
  }
  char padding[4] = {};
  documents_.resize(num_documents_);
  block_checksums_.resize(num_blocks);
  RETURN_IF_ERROR(file_.ReadAt(tables, padding, records - tables));
  RETURN_IF_ERROR(file_.ReadAt(records, documents_.data(), checksums - records));
  RETURN_IF_ERROR(file_.ReadAt(checksums, block_checksums_.data(), end - checksums));
  uint32_t checksum = Crc32c(padding, records - tables);
  checksum = ExtendCrc32c(checksum, documents_.data(), checksums - records);
  checksum = ExtendCrc32c(checksum, block_checksums_.data(), end - checksums);
  if (checksum != tables_checksum_) {
    return Damaged(tables, "the checksum of the document table does not match");
  }
  int64_t sum = 0;
  for (int64_t i = 0; i < num_documents_; ++i) {
    if (documents_[i].num_tokens == 0) {
      return Damaged(records + i * sizeof(DocumentRecord), "a document without tokens");
    }
    sum += documents_[i].num_tokens;
  }
  if (sum != num_tokens_) {
    return Damaged(records,
                   absl::StrCat("the documents have ", sum, " tokens, the file has ", num_tokens_));
  }
  block_verified_ = std::make_unique<std::atomic<bool>[]>(num_blocks);
  return absl::OkStatus();
}

// Bytes [begin, end) of the tokens. A block is read whole and verified the first time.
Status TokenShard::ReadBytes(int64_t begin, int64_t end, char* out) const {
  const int64_t token_bytes = num_tokens_ * width_;
  std::string whole;
  while (begin < end) {
    const int64_t block = begin / kBlockBytes, block_begin = block * kBlockBytes;
    const int64_t block_end = std::min(block_begin + kBlockBytes, token_bytes);
    const int64_t bytes = std::min(end, block_end) - begin;
    const int64_t offset = sizeof(Header) + block_begin;
    if (block_verified_[block].load(std::memory_order_relaxed)) {
      RETURN_IF_ERROR(file_.ReadAt(sizeof(Header) + begin, out, bytes));
    } else {
      whole.resize(block_end - block_begin);
      RETURN_IF_ERROR(file_.ReadAt(offset, whole.data(), whole.size()));
      if (Crc32c(whole.data(), whole.size()) != block_checksums_[block]) {
        return Damaged(offset, absl::StrCat("the checksum of block ", block, " does not match"));
      }
      block_verified_[block].store(true, std::memory_order_relaxed);
      std::memcpy(out, whole.data() + (begin - block_begin), bytes);
    }
    begin += bytes;
    out += bytes;
  }
  return absl::OkStatus();
}

Status TokenShard::Read(int64_t begin, absl::Span<int32_t> tokens) const {
  const int64_t end = begin + tokens.size();
  CHECK(begin >= 0 && begin <= end && end <= num_tokens_)
      << "tokens [" << begin << ", " << end << ") of " << num_tokens_;
  std::string packed(tokens.size() * width_, '\0');
  RETURN_IF_ERROR(ReadBytes(begin * width_, end * width_, packed.data()));
  UnpackTokens(packed.data(), width_, tokens);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocabulary_size_) {
      return Damaged(sizeof(Header) + (begin + i) * width_,
                     absl::StrCat("token ", static_cast<uint32_t>(tokens[i]),
                                  " is outside a vocabulary of ", vocabulary_size_));
    }
  }
  return absl::OkStatus();
}

StatusOr<std::unique_ptr<TokenShardWriter>> TokenShardWriter::Create(const std::string& path,
                                                                     absl::string_view tokenizer,
                                                                     int64_t vocabulary_size) {
  CHECK_LE(tokenizer.size(), sizeof(Header::tokenizer));
  CHECK(vocabulary_size > 0 && vocabulary_size <= std::numeric_limits<int32_t>::max());
  ASSIGN_OR_RETURN(File file, File::Create(TemporaryName(path)));
  return std::unique_ptr<TokenShardWriter>(
      new TokenShardWriter(path, std::move(file), tokenizer, vocabulary_size));
}

TokenShardWriter::TokenShardWriter(std::string path, File file, absl::string_view tokenizer,
                                   int64_t vocabulary_size)
    : path_(std::move(path)),
      file_(std::move(file)),
      tokenizer_(tokenizer),
      vocabulary_size_(vocabulary_size) {}

TokenShardWriter::~TokenShardWriter() {
  if (!finished_) unlink(TemporaryName(path_).c_str());
}

Status TokenShardWriter::WriteBlock(size_t bytes) {
  const int64_t offset = sizeof(Header) + block_checksums_.size() * kBlockBytes;
  RETURN_IF_ERROR(file_.WriteAt(offset, pending_.data(), bytes));
  block_checksums_.push_back(Crc32c(pending_.data(), bytes));
  pending_.erase(0, bytes);
  return absl::OkStatus();
}

Status TokenShardWriter::Add(absl::Span<const int32_t> tokens, absl::string_view text) {
  ASSIGN_OR_RETURN(const DocumentRecord record, MakeDocumentRecord(tokens, text, vocabulary_size_));
  const int width = TokenWidth(vocabulary_size_);
  while (!tokens.empty()) {
    // Never more than a block is pending, however long the document.
    const size_t room = (kBlockBytes - pending_.size()) / width;
    PackTokens(tokens.subspan(0, room), width, &pending_);
    tokens.remove_prefix(std::min(room, tokens.size()));
    if (pending_.size() == kBlockBytes) RETURN_IF_ERROR(WriteBlock(kBlockBytes));
  }
  documents_.push_back(record);
  num_tokens_ += record.num_tokens;
  return absl::OkStatus();
}

Status TokenShardWriter::Finish() {
  if (!pending_.empty()) RETURN_IF_ERROR(WriteBlock(pending_.size()));
  const int width = TokenWidth(vocabulary_size_);
  std::string tables(PaddedTo4(num_tokens_ * width) - num_tokens_ * width, '\0');
  const auto append = [&tables](const auto& table) {
    tables.append(reinterpret_cast<const char*>(table.data()), table.size() * sizeof(table[0]));
  };
  append(documents_);
  append(block_checksums_);
  RETURN_IF_ERROR(
      file_.WriteAt(sizeof(Header) + num_tokens_ * width, tables.data(), tables.size()));

  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(header.magic));
  header.version = kVersion;
  header.width = width;
  header.vocabulary_size = vocabulary_size_;
  header.num_tokens = num_tokens_;
  header.num_documents = documents_.size();
  std::memcpy(header.tokenizer, tokenizer_.data(), tokenizer_.size());
  header.tables_checksum = Crc32c(tables.data(), tables.size());
  header.header_checksum = Crc32c(&header, kHeaderChecksumOffset);
  RETURN_IF_ERROR(file_.WriteAt(0, &header, sizeof(header)));
  RETURN_IF_ERROR(file_.Sync());
  RETURN_IF_ERROR(file_.Close());
  if (std::rename(TemporaryName(path_).c_str(), path_.c_str()) != 0) {
    return ErrnoStatus(errno, "rename", path_);
  }
  finished_ = true;
  const size_t slash = path_.rfind('/');
  return SyncDirectory(slash == std::string::npos ? "." : path_.substr(0, slash + 1));
}

}  // namespace trireme
