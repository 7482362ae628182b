#pragma once

#include "optim/optimizer.h"

namespace trireme {

inline constexpr ParamInfo kSgdParams[] = {
    {"momentum", ParamType::kFloat, "0.9", "decay of the velocity; 0 keeps no state", 0, 1},
    {"dampening", ParamType::kFloat, "0", "share of each gradient kept out of the velocity", 0, 1},
    {"nesterov", ParamType::kBool, "false", "look ahead along the velocity"},
    {"weight_decay", ParamType::kFloat, "0", "added to the gradient, times the parameter", 0},
};
std::unique_ptr<Optimizer> MakeSgd(const Params& params);

}  // namespace trireme
