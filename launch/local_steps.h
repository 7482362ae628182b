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

inline constexpr ParamInfo kBilevelParams[] = {
    {"upper", ParamType::kString, nullptr,
     "pattern of the parameters of the outer problem; all others are of the inner one"},
    {"lower_steps", ParamType::kInt, "1", "steps of the inner problem in each step", 0, 1e6},
    {"lower_learning_rate", ParamType::kFloat, "0.1",
     "of these; its parameters arrive there when their optimizer is SGD at this rate", 0},
    {"terms", ParamType::kInt, "8", "of the series for the inverse second derivative", 0, 1e6},
    {"series_rate", ParamType::kFloat, "0.5",
     "eta of the series: below 2 over the largest second derivative of the inner problem", 0},
    {"difference", ParamType::kFloat, "0.01",
     "how far, in directions, gradients are taken apart for a second derivative", 1e-12},
};
StatusOr<std::unique_ptr<LocalStep>> MakeBilevelStep(const Params& params);

}  // namespace trireme
