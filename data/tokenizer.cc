#include "data/tokenizer.h"

#include "absl/strings/str_cat.h"

#include "core/base/params.h"

namespace trireme {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  const char* name() const override { return "bytes"; }
  int64_t vocabulary_size() const override { return 256; }

  void Encode(absl::string_view text, std::vector<int32_t>* tokens) const override {
    tokens->resize(text.size());
    for (size_t i = 0; i < text.size(); ++i) (*tokens)[i] = static_cast<uint8_t>(text[i]);
  }

  StatusOr<std::string> Decode(absl::Span<const int32_t> tokens) const override {
    std::string text;
    text.reserve(tokens.size());
    for (const int32_t token : tokens) {
      if (token < 0 || token > 255) {
        return absl::InvalidArgumentError(absl::StrCat("token ", token, " is not a byte"));
      }
      text.push_back(static_cast<char>(token));
    }
    return text;
  }
};

}  // namespace

StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(absl::string_view name) {
  if (name == "bytes") return std::make_unique<ByteTokenizer>();
  return absl::InvalidArgumentError(UnknownNameMessage("tokenizer", name, {"bytes"}));
}

}  // namespace trireme
