#pragma once

#include "parallel/sync/codec.h"

namespace trireme {

inline constexpr ParamInfo kTwoBitParams[] = {
    {"block", ParamType::kInt, "2048", "elements that share bins; 0: the whole parameter", 0},
};

StatusOr<std::unique_ptr<Codec>> MakeTwoBit(const Params& params);

}  // namespace trireme
