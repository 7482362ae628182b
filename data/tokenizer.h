// Text to tokens and back.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/params.h"
#include "core/base/status.h"

namespace trireme {

// Thread-safe. Text is any bytes: nothing assumes UTF-8.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual const char* name() const = 0;
  virtual int64_t vocabulary_size() const = 0;
  // Replaces *tokens.
  virtual void Encode(absl::string_view text, std::vector<int32_t>* tokens) const = 0;
  // INVALID_ARGUMENT for a token outside the vocabulary.
  virtual StatusOr<std::string> Decode(absl::Span<const int32_t> tokens) const = 0;
};

inline constexpr ParamInfo kTokenizerParam = {
    "tokenizer", ParamType::kString, "bytes", "how text becomes tokens",
    -kUnbounded, kUnbounded,         "bytes"};

// "bytes": 256 tokens, each its byte.
StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(absl::string_view name);

}  // namespace trireme
