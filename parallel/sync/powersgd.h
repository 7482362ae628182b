#pragma once

#include "parallel/sync/codec.h"

namespace trireme {

inline constexpr ParamInfo kPowerSgdParams[] = {
    {"rank", ParamType::kInt, "2", "columns of the factors; no more than the matrix has are used",
     1},
};

StatusOr<std::unique_ptr<Codec>> MakePowerSgd(const Params& params);

}  // namespace trireme
