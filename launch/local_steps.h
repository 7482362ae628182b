#pragma once

#include "launch/local_step.h"

namespace trireme {

StatusOr<std::unique_ptr<LocalStep>> MakePlainStep(const Params& params);

inline constexpr ParamInfo kProximalParams[] = {
    {"lambda", ParamType::kFloat, "15", "how strongly the personal model is held to the other", 0},
    {"inner_steps", ParamType::kInt, "5", "steps of the personal model on each batch", 1, 1e6},
    {"inner_learning_rate", ParamType::kFloat, "0.1", "of these steps", 0},
};
StatusOr<std::unique_ptr<LocalStep>> MakeProximalStep(const Params& params);

inline constexpr ParamInfo kMamlParams[] = {
    {"inner_learning_rate", ParamType::kFloat, "0.01", "of the step that adapts", 0},
};
StatusOr<std::unique_ptr<LocalStep>> MakeMamlStep(const Params& params);

}  // namespace trireme
