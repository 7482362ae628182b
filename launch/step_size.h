// `trireme sync step_size`: the step that EF21 and EF21-W allow, from what the replicas' losses are
// like and what the codec keeps.
#pragma once

#include <string>

#include "launch/command_line.h"

namespace trireme {

// The flags that it reads, for the table of `trireme sync`.
inline constexpr Flag kSmoothnessFlag = {"smoothness", "L1,L2,...",
                                         "step_size: smoothness constants of the replicas' losses"};
inline constexpr Flag kMeanSmoothnessFlag = {
    "mean-smoothness", "L", "step_size: that of their mean (default: the mean of the constants)"};
inline constexpr Flag kCodecFlag = {"codec", "NAME", "step_size: a codec that contracts"};
inline constexpr Flag kParamFlag = {"param", "KEY=VALUE", "step_size: a parameter of the codec",
                                    true};
inline constexpr Flag kElementsFlag = {
    "elements", "N", "step_size: of the vector (default: one block of the codec)"};

// INVALID_ARGUMENT when a flag is missing.
Status CheckStepSizeUsage(const CommandLine& line);

StatusOr<std::string> StepSizeText(const CommandLine& line);

}  // namespace trireme
