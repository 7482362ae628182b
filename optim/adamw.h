#pragma once

#include "optim/optimizer.h"

namespace trireme {

inline constexpr ParamInfo kAdamWParams[] = {
    {"beta1", ParamType::kFloat, "0.9", "decay of the first moment", 0, 1},
    {"beta2", ParamType::kFloat, "0.95", "decay of the second moment", 0, 1},
    {"epsilon", ParamType::kFloat, "1e-8", "added to the root of the second moment", 0},
    {"weight_decay", ParamType::kFloat, "0.1", "decoupled decay, times the learning rate", 0},
};
std::unique_ptr<Optimizer> MakeAdamW(const Params& params);

}  // namespace trireme
