// Retention (Sun et al. 2023, RetNet): linear attention with rotary positions and a constant decay
// for each head.
//
//   S_t = gamma_i S_{t-1} + k_t v_t^T,  o_t = S_t^T q_t / sqrt(K)
//   gamma_i = 1 - 2^-(5 + i) of head i
//   y = wo (silu(wg x) RmsNorm(o))
#pragma once

#include "models/attention/linear_heads.h"

namespace trireme {

inline constexpr ParamInfo kRetentionParams[] = {
    HeadsParam("8"),
    ExpandKParam("1"),
    ExpandVParam("2"),
    {"first_exponent", ParamType::kFloat, "5",
     "head i keeps 1 - 2^-(first_exponent + i) of its state each token"},
    {"rotary_theta", ParamType::kFloat, "10000", "base of the rotary frequencies; 0: no positions",
     0},
};
StatusOr<std::unique_ptr<TokenMixer>> MakeRetention(const Params& params, const MixerShape& shape,
                                                    const Scope& scope);

}  // namespace trireme
