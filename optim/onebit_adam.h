// 1-bit Adam: Tang et al., "1-bit Adam: communication efficient large-scale training with Adam's
// convergence speed", ICML 2021. Its name in configs is onebit_adam.
#pragma once

#include "optim/optimizer.h"

namespace trireme {

inline constexpr ParamInfo kOneBitAdamParams[] = {
    {"beta1", ParamType::kFloat, "0.9", "decay of the first moment, until it is frozen", 0, 1},
    {"beta2", ParamType::kFloat, "0.999", "decay of the second moment", 0, 1},
    {"epsilon", ParamType::kFloat, "1e-8", "added to the root of the second moment", 0},
    {"weight_decay", ParamType::kFloat, "0", "decoupled decay, times the learning rate", 0},
    {"freeze_step", ParamType::kInt, "100000",
     "steps of Adam; then the second moment stays and gradients are taken for the first", 1},
};
std::unique_ptr<Optimizer> MakeOneBitAdam(const Params& params);

}  // namespace trireme
