// Token shards as a data set.
#pragma once

#include <memory>

#include "data/token_dataset.h"

namespace trireme {

inline constexpr ParamInfo kTokensParams[] = {
    {"files", ParamType::kString, nullptr,
     "token shards: paths and glob patterns, with commas between"},
    kValidationFractionParam,
};
StatusOr<std::unique_ptr<Dataset>> MakeTokens(const Params& params, const DatasetContext& context);

}  // namespace trireme
