// Text files as a data set, without an intermediate file. For texts that fit in memory.
#pragma once

#include <memory>

#include "data/documents.h"
#include "data/token_dataset.h"
#include "data/tokenizer.h"

namespace trireme {

inline constexpr ParamInfo kTextParams[] = {
    {"files", ParamType::kString, nullptr,
     "plain or gzip text: paths and glob patterns, with commas between"},
    kTokenizerParam,
    kDocumentsParam,
    kDocumentPrefixParam,
    kMinDocumentBytesParam,
    kValidationFractionParam,
};
StatusOr<std::unique_ptr<Dataset>> MakeText(const Params& params, const DatasetContext& context);

}  // namespace trireme
