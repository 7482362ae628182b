// Mamba-2 (Dao and Gu 2024), a selective state space model as linear attention: the input is the
// value, B the key, C the query, and a step size the strength of both write and decay.
//
//   S_t = e^(-e^a_log D_t) S_{t-1} + B_t (D_t x_t)^T,  y_t = S_t^T C_t + d x_t
//   D = softplus(wdt u + dt_bias),  x, B, C = silu(conv(w u))
//   wo RmsNorm(y silu(wz u)), the norm over the heads of a group
#pragma once

#include "models/attention/linear_heads.h"

namespace trireme {

inline constexpr ParamInfo kMamba2Params[] = {
    {"head_width", ParamType::kInt, "64", "channels of a head", 1},
    {"expand", ParamType::kFloat, "2", "channels of all heads over the width", 0},
    {"state_width", ParamType::kInt, "128", "rows of the state of a head", 1},
    {"groups", ParamType::kInt, "1", "of heads that share B and C", 1},
    ConvSizeParam(),
};
StatusOr<std::unique_ptr<TokenMixer>> MakeMamba2(const Params& params, const MixerShape& shape,
                                                 const Scope& scope);

}  // namespace trireme
