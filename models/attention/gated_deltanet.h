// Gated DeltaNet (Yang, Kautz, Hatamizadeh 2024): the delta rule on a state that decays as in
// Mamba-2. See delta_inputs.h and decay_gate.h.
//
//   S_t = (I - beta_t k_t k_t^T) e^g_t S_{t-1} + beta_t k_t v_t^T
//   g = -e^a_log softplus(wa x + dt_bias)
//   o_t = S_t^T q_t / sqrt(K),  y = wo (silu(wg x) RmsNorm(o))
#pragma once

#include "models/attention/delta_inputs.h"

namespace trireme {

inline constexpr ParamInfo kGatedDeltaNetParams[] = {
    HeadsParam("6"),
    KeyHeadsParam(),
    {"head_width", ParamType::kInt, "256", "channels of queries and keys of a head", 1},
    {"expand_v", ParamType::kFloat, "2", "channels of a head of values over head_width", 0},
    ConvSizeParam(),
    KeyNormParam(),
    NegativeEigenvaluesParam(),
};
StatusOr<std::unique_ptr<TokenMixer>> MakeGatedDeltaNet(const Params& params,
                                                        const MixerShape& shape,
                                                        const Scope& scope);

}  // namespace trireme
