// Plain or gzip text: whatever the rule, the documents one after another are the text.
#include <memory>
#include <string>

#include "core/base/log.h"
#include "data/documents.h"
#include "data/input_file.h"
#include "tests/fuzz/target.h"

namespace trireme::fuzz {
namespace {

StatusOr<std::string> ReadText(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<InputFile> file, InputFile::Open(path));
  std::string text, buffer(100, '\0');
  for (;;) {
    ASSIGN_OR_RETURN(const size_t n, file->Read(buffer.data(), buffer.size()));
    text.append(buffer, 0, n);
    if (n < buffer.size() || text.size() > 1 << 20) return text;
  }
}

}  // namespace

bool Accepts(absl::string_view input) {
  using Begin = DocumentRule::Begin;
  const MemoryFile file(input);
  const StatusOr<std::string> text = ReadText(file.path());
  if (!text.ok()) return false;
  if (text->size() > 1 << 20) return true;  // gzip unpacks to a thousand times its size.
  for (const Begin begin :
       {Begin::kFile, Begin::kLine, Begin::kBlankLine, Begin::kEntry, Begin::kPrefix}) {
    const DocumentRule rule = {begin, begin == Begin::kPrefix ? "#" : "", text->size() % 8};
    std::string joined;
    CHECK_OK(ForEachDocument(file.path(), rule, [&](absl::string_view document) {
      CHECK(!document.empty());
      joined.append(document.data(), document.size());
      return absl::OkStatus();
    }));
    CHECK(joined == *text);
  }
  return true;
}

}  // namespace trireme::fuzz
