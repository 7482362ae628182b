// Text files to a token shard: what `trireme tokenize` does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "core/base/params.h"
#include "core/base/status.h"

namespace trireme {

// tokenizer, documents, document_prefix, min_document_bytes.
absl::Span<const ParamInfo> TokenizeParams();

struct TokenizeReport {
  int64_t num_documents = 0;
  int64_t num_tokens = 0;
  int64_t num_bytes = 0;              // Of text.
  std::vector<double> bits_per_byte;  // NgramEntropy of the text; empty when it has none.
};

// Writes the documents of the inputs (plain or gzip), in order, to `output`, whole or not at all.
// INVALID_ARGUMENT when the inputs hold no text.
StatusOr<TokenizeReport> TokenizeFiles(absl::Span<const std::string> inputs, const Params& options,
                                       const std::string& output);

}  // namespace trireme
