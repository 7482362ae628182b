// Random tokens, for tests and benchmarks: every run and every rank makes the same ones.
#pragma once

#include <memory>

#include "data/token_dataset.h"

namespace trireme {

inline constexpr ParamInfo kSyntheticParams[] = {
    {"vocabulary_size", ParamType::kInt, "256", "number of different tokens", 1,
     (int64_t{1} << 31) - 1},
    {"num_tokens", ParamType::kInt, "1000000", "length of all documents together", 1,
     int64_t{1} << 36},
    {"max_document_tokens", ParamType::kInt, "1000",
     "lengths of documents are uniform between 1 and this", 1, int64_t{1} << 31},
    {"seed", ParamType::kInt, "0", "of the tokens and the lengths", 0},
    kValidationFractionParam,
};
StatusOr<std::unique_ptr<Dataset>> MakeSynthetic(const Params& params,
                                                 const DatasetContext& context);

}  // namespace trireme
