#pragma once

#include "parallel/sync/codec.h"

namespace trireme {

inline constexpr ParamInfo kSignParams[] = {
    {"norm", ParamType::kString, "l2",
     "size of a decoded element: l2, ||v||_2 / sqrt(n), keeps the norm; l1, ||v||_1 / n, is the "
     "nearest and a contraction",
     -kUnbounded, kUnbounded, "l1|l2"},
    {"block", ParamType::kInt, "4096", "elements that share a size; 0: the whole parameter", 0},
};

StatusOr<std::unique_ptr<Codec>> MakeSign(const Params& params);

}  // namespace trireme
