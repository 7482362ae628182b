#pragma once

#include "parallel/sync/kept_count.h"

namespace trireme {

inline constexpr ParamInfo kTopKParams[] = {
    kKeptCountParams[0],
    kKeptCountParams[1],
    kKeptCountParams[2],
};

StatusOr<std::unique_ptr<Codec>> MakeTopK(const Params& params);

}  // namespace trireme
