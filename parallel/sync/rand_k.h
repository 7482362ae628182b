#pragma once

#include "parallel/sync/kept_count.h"

namespace trireme {

inline constexpr ParamInfo kRandKParams[] = {
    kKeptCountParams[0],
    kKeptCountParams[1],
    kKeptCountParams[2],
    {"unbiased", ParamType::kBool, "false",
     "scale by n / k, so that the mean over rounds is v; no contraction then"},
};

StatusOr<std::unique_ptr<Codec>> MakeRandK(const Params& params);

}  // namespace trireme
