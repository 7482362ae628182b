#include "data/documents.h"

#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "data/input_file.h"

namespace trireme {
namespace {

bool IsBlank(absl::string_view line) {
  return line.find_first_not_of(" \t\r\n") == absl::string_view::npos;
}

DocumentRule::Begin ParseBegin(const std::string& name) {
  if (name == "line") return DocumentRule::Begin::kLine;
  if (name == "blank_line") return DocumentRule::Begin::kBlankLine;
  if (name == "entry") return DocumentRule::Begin::kEntry;
  if (name == "prefix") return DocumentRule::Begin::kPrefix;
  return DocumentRule::Begin::kFile;
}

}  // namespace

StatusOr<DocumentRule> MakeDocumentRule(absl::string_view component, const Params& params) {
  DocumentRule rule;
  rule.begin = ParseBegin(params.String("documents"));
  rule.prefix = params.String("document_prefix");
  rule.min_bytes = params.Int("min_document_bytes");
  if ((rule.begin == DocumentRule::Begin::kPrefix) == rule.prefix.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        component, ": document_prefix goes with documents = prefix, and only with it"));
  }
  return rule;
}

bool DocumentSplitter::BeginsDocument(absl::string_view line) const {
  switch (rule_.begin) {
    case DocumentRule::Begin::kFile:
      return false;
    case DocumentRule::Begin::kLine:
      return !IsBlank(line);
    case DocumentRule::Begin::kBlankLine:
      return after_blank_ && !IsBlank(line);
    case DocumentRule::Begin::kEntry:
      return after_blank_ && !IsBlank(line) && line[0] != ' ' && line[0] != '\t';
    case DocumentRule::Begin::kPrefix:
      return absl::StartsWith(line, rule_.prefix);
  }
  return false;
}

Status DocumentSplitter::EndLine() {
  const absl::string_view line = absl::string_view(text_).substr(line_begin_);
  const bool is_blank = IsBlank(line);
  if (has_text_ && line_begin_ >= rule_.min_bytes && BeginsDocument(line)) {
    RETURN_IF_ERROR(emit_(absl::string_view(text_).substr(0, line_begin_)));
    text_.erase(0, line_begin_);
    has_text_ = false;
  }
  has_text_ |= !is_blank;
  after_blank_ = is_blank;
  line_begin_ = text_.size();
  return absl::OkStatus();
}

Status DocumentSplitter::Push(absl::string_view bytes) {
  while (!bytes.empty()) {
    const size_t newline = bytes.find('\n');
    if (newline == absl::string_view::npos) {
      text_.append(bytes.data(), bytes.size());
      break;
    }
    text_.append(bytes.data(), newline + 1);
    bytes.remove_prefix(newline + 1);
    RETURN_IF_ERROR(EndLine());
  }
  return absl::OkStatus();
}

Status DocumentSplitter::Finish() {
  if (line_begin_ < text_.size()) RETURN_IF_ERROR(EndLine());
  if (text_.empty()) return absl::OkStatus();
  const Status status = emit_(text_);
  text_.clear();
  line_begin_ = 0;
  after_blank_ = true;
  has_text_ = false;
  return status;
}

Status ForEachDocument(const std::string& path, const DocumentRule& rule,
                       const DocumentSplitter::Emit& emit) {
  ASSIGN_OR_RETURN(const std::unique_ptr<InputFile> file, InputFile::Open(path));
  DocumentSplitter splitter(
      rule, [&](absl::string_view document) { return Annotate(emit(document), path); });
  std::string buffer(1 << 18, '\0');
  for (;;) {
    ASSIGN_OR_RETURN(const size_t n, file->Read(buffer.data(), buffer.size()));
    RETURN_IF_ERROR(splitter.Push({buffer.data(), n}));
    if (n < buffer.size()) return splitter.Finish();
  }
}

}  // namespace trireme
