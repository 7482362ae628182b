// Gated linear attention (Yang et al. 2024): a decay for each channel of the keys, made from the
// token.
//
//   S_t = Diag(e^g_t) S_{t-1} + k_t v_t^T,  o_t = S_t^T q_t / sqrt(K)
//   g = log sigmoid(gate_up gate_down x + gate_bias) / 16
//   y = wo (silu(wg x) RmsNorm(o))
#pragma once

#include "models/attention/linear_heads.h"

namespace trireme {

inline constexpr ParamInfo kGlaParams[] = {
    HeadsParam("4"),
    ExpandKParam("0.5"),
    ExpandVParam("1"),
    {"gate_rank", ParamType::kInt, "16", "rank of the product that makes the decays", 1},
    {"gate_divisor", ParamType::kFloat, "16", "of the log decays: larger ones forget more slowly",
     1e-6},
};
StatusOr<std::unique_ptr<TokenMixer>> MakeGla(const Params& params, const MixerShape& shape,
                                              const Scope& scope);

}  // namespace trireme
