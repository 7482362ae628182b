// Windows of a token corpus as samples, with labels, document boundaries and byte counts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/document_index.h"
#include "data/token_corpus.h"

namespace trireme {

inline constexpr ParamInfo kValidationFractionParam = {
    "validation_fraction",
    ParamType::kFloat,
    "0.05",
    "share of the documents, chosen by a hash of their content, that is not trained on",
    0,
    1};

struct TokenDatasetOptions {
  int64_t sequence_length = 0;
  double validation_fraction = 0;
};

// Sample w of a split of T tokens has tokens [w L, w L + L) as inputs and the tokens that follow
// them as labels, so window w + 1 begins with the last label of window w and every pair is seen
// once. A label is kIgnoredLabel where the next token belongs to another document. `name` opens
// error messages. INVALID_ARGUMENT when a split with a part of the hashes has no sample.
StatusOr<std::unique_ptr<Dataset>> MakeTokenDataset(
    absl::string_view name, std::vector<std::unique_ptr<TokenCorpus>> corpora,
    const TokenDatasetOptions& options);

}  // namespace trireme
