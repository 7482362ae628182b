#include "data/token_corpus.h"

#include <bit>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/rng.h"

namespace trireme {
namespace {

static_assert(std::endian::native == std::endian::little, "tokens are stored little endian");

template <typename T>
void Unpack(const char* packed, absl::Span<int32_t> tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    T token;
    std::memcpy(&token, packed + i * sizeof(T), sizeof(T));
    tokens[i] = static_cast<int32_t>(token);
  }
}

template <typename T>
void Pack(absl::Span<const int32_t> tokens, char* out) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const T token = static_cast<T>(tokens[i]);
    std::memcpy(out + i * sizeof(T), &token, sizeof(T));
  }
}

}  // namespace

uint32_t DocumentHash(absl::string_view text) {
  return static_cast<uint32_t>(StableHash(text) >> 32);
}

int TokenWidth(int64_t vocabulary_size) {
  if (vocabulary_size <= 1 << 8) return 1;
  return vocabulary_size <= 1 << 16 ? 2 : 4;
}

void PackTokens(absl::Span<const int32_t> tokens, int width, std::string* out) {
  const size_t begin = out->size();
  out->resize(begin + tokens.size() * width);
  switch (width) {
    case 1:
      return Pack<uint8_t>(tokens, out->data() + begin);
    case 2:
      return Pack<uint16_t>(tokens, out->data() + begin);
    default:
      return Pack<uint32_t>(tokens, out->data() + begin);
  }
}

void UnpackTokens(const char* packed, int width, absl::Span<int32_t> tokens) {
  switch (width) {
    case 1:
      return Unpack<uint8_t>(packed, tokens);
    case 2:
      return Unpack<uint16_t>(packed, tokens);
    default:
      return Unpack<uint32_t>(packed, tokens);
  }
}

StatusOr<DocumentRecord> MakeDocumentRecord(absl::Span<const int32_t> tokens,
                                            absl::string_view text, int64_t vocabulary_size) {
  constexpr size_t kMax = std::numeric_limits<uint32_t>::max();
  if (tokens.empty()) return absl::InvalidArgumentError("a document has no tokens");
  if (tokens.size() > kMax || text.size() > kMax) {
    return absl::InvalidArgumentError(absl::StrCat("a document has ", text.size(), " bytes and ",
                                                   tokens.size(), " tokens; at most ", kMax,
                                                   " of each"));
  }
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocabulary_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", token, " is outside a vocabulary of ", vocabulary_size));
    }
  }
  return DocumentRecord{static_cast<uint32_t>(tokens.size()), static_cast<uint32_t>(text.size()),
                        DocumentHash(text)};
}

Status MemoryCorpus::Add(absl::Span<const int32_t> tokens, absl::string_view text) {
  ASSIGN_OR_RETURN(const DocumentRecord record, MakeDocumentRecord(tokens, text, vocabulary_size_));
  PackTokens(tokens, width_, &packed_);
  documents_.push_back(record);
  return absl::OkStatus();
}

Status MemoryCorpus::Read(int64_t begin, absl::Span<int32_t> tokens) const {
  CHECK(begin >= 0 && begin + static_cast<int64_t>(tokens.size()) <= num_tokens());
  UnpackTokens(packed_.data() + begin * width_, width_, tokens);
  return absl::OkStatus();
}

}  // namespace trireme
