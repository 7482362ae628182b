// Lightning attention (Qin et al. 2024), as MiniMax-01 has it: a constant decay for each head,
// smaller in deeper layers, and SiLU in place of positions and feature maps.
//
//   S_t = e^-s_i S_{t-1} + k_t v_t^T,  o_t = S_t^T q_t,  q, k, v = silu(w x)
//   s_i = 2^(-8 (i + 1) / heads) (1 - layer / (layers - 1) + 1e-5) of head i
//   y = wo (sigmoid(wg x) RmsNorm(o)), the norm over all heads
//
// The slopes `alibi` are those of TransNormerLLM, without the second factor.
#pragma once

#include "models/attention/linear_heads.h"

namespace trireme {

inline constexpr ParamInfo kLightningParams[] = {
    HeadsParam("8"),
    {"head_width", ParamType::kInt, "0", "channels of a head; 0: width / heads", 0},
    {"slopes", ParamType::kString, "minimax", "minus the log decays of the heads", -kUnbounded,
     kUnbounded, "minimax|alibi"},
    {"slope_scale", ParamType::kFloat, "1", "times the slopes; 0: no decay"},
};
StatusOr<std::unique_ptr<TokenMixer>> MakeLightning(const Params& params, const MixerShape& shape,
                                                    const Scope& scope);

}  // namespace trireme
