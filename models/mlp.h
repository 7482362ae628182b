// A multi-layer perceptron over flattened samples.
#pragma once

#include "models/models.h"

namespace trireme {

inline constexpr ParamInfo kMlpParams[] = {
    {"hidden", ParamType::kString, "256,256", "widths of the hidden layers, separated by commas"},
    {"activation", ParamType::kString, "relu", "after each hidden layer", -kUnbounded, kUnbounded,
     "relu|gelu|silu|tanh"},
    {"dropout", ParamType::kFloat, "0", "after each activation", 0, 0.99},
};
StatusOr<std::unique_ptr<Model>> MakeMlp(const Params& params, const ComponentConfig& config,
                                         const DataShape& data, const ModelLayout& layout);

}  // namespace trireme
