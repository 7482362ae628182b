// Cuts text into documents. Nothing is lost: the documents of a file, one after another, are the
// file.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

#include "core/base/params.h"
#include "core/base/status.h"

namespace trireme {

// Parameters that a component which reads text has among its own.
inline constexpr ParamInfo kDocumentsParam = {"documents",
                                              ParamType::kString,
                                              "file",
                                              "what begins a document: a file, a line, a line "
                                              "after blank ones, such a line that is not indented "
                                              "(dictionary entries), a line with a prefix",
                                              -kUnbounded,
                                              kUnbounded,
                                              "file|line|blank_line|entry|prefix"};
inline constexpr ParamInfo kDocumentPrefixParam = {"document_prefix", ParamType::kString, "",
                                                   "the prefix, for documents = prefix"};
inline constexpr ParamInfo kMinDocumentBytesParam = {
    "min_document_bytes",
    ParamType::kInt,
    "0",
    "consecutive documents of a file are joined until they are this long",
    0,
    1 << 30};

struct DocumentRule {
  enum class Begin { kFile, kLine, kBlankLine, kEntry, kPrefix };
  Begin begin = Begin::kFile;
  std::string prefix{};
  size_t min_bytes = 0;
};

// From the three parameters above. INVALID_ARGUMENT when prefix and rule do not fit.
StatusOr<DocumentRule> MakeDocumentRule(absl::string_view component, const Params& params);

// Cuts one file. Lines end with \n; blank lines may hold spaces, tabs and \r. Memory: the longest
// document.
class DocumentSplitter {
 public:
  using Emit = std::function<Status(absl::string_view document)>;
  DocumentSplitter(const DocumentRule& rule, Emit emit) : rule_(rule), emit_(std::move(emit)) {}

  // The next bytes, cut anywhere. Errors are those of emit.
  Status Push(absl::string_view bytes);
  // The end of the file.
  Status Finish();

 private:
  bool BeginsDocument(absl::string_view line) const;
  Status EndLine();

  DocumentRule rule_;
  Emit emit_;
  std::string text_;       // Of the document so far, with the line that is not complete yet.
  size_t line_begin_ = 0;  // Of that line.
  bool after_blank_ = true;
  bool has_text_ = false;  // Blank lines before the first document belong to it.
};

// Calls emit for each document of a plain or gzip file.
Status ForEachDocument(const std::string& path, const DocumentRule& rule,
                       const DocumentSplitter::Emit& emit);

}  // namespace trireme
