// Linear attention (Katharopoulos et al. 2020): weights phi(q) . phi(k) of a feature map, which sum
// up in a state.
//
//   S_t = S_{t-1} + phi(k_t) v_t^T,  z_t = z_{t-1} + phi(k_t)
//   o_t = S_t^T phi(q_t) / (z_t . phi(q_t) + 1e-10)
//   o_t = S_t^T phi(q_t) / sqrt(features), not normalized
//   y = wo o, or wo RmsNorm(o)
#pragma once

#include "models/attention/linear_heads.h"

namespace trireme {

inline constexpr ParamInfo kLinearAttentionParams[] = {
    HeadsParam("8"),
    ExpandKParam("1"),
    ExpandVParam("1"),
    {"feature_map", ParamType::kString, "elu_1", "of queries and keys", -kUnbounded, kUnbounded,
     "elu_1|relu|identity|dpfp|taylor|hedgehog"},
    {"normalize", ParamType::kBool, "true", "divide by the sum of the weights"},
    {"output_norm", ParamType::kBool, "false", "RMS norm over each head of the output"},
};
StatusOr<std::unique_ptr<TokenMixer>> MakeLinearAttention(const Params& params,
                                                          const MixerShape& shape,
                                                          const Scope& scope);

}  // namespace trireme
