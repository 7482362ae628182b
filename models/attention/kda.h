// Kimi delta attention (Kimi Linear 2025): the delta rule on a state that decays by channels of the
// keys. See delta_inputs.h and decay_gate.h.
//
//   S_t = (I - beta_t k_t k_t^T) Diag(e^g_t) S_{t-1} + beta_t k_t v_t^T,  o_t = S_t^T q_t / sqrt(K)
//   g = -e^a_log softplus(f + dt_bias), or lower_bound sigmoid(e^a_log (f + dt_bias))
//   f = f_up f_down x
//   y = wo (sigmoid(g_up g_down x + g_bias) RmsNorm(o))
#pragma once

#include "models/attention/delta_inputs.h"

namespace trireme {

inline constexpr ParamInfo kKdaParams[] = {
    HeadsParam("16"),
    KeyHeadsParam(),
    {"head_width", ParamType::kInt, "128", "channels of queries and keys of a head", 1},
    {"expand_v", ParamType::kFloat, "1", "channels of a head of values over head_width", 0},
    {"lower_bound", ParamType::kFloat, "0", "of log decays, -5 for example; 0: none", -kUnbounded,
     0},
    ConvSizeParam(),
    KeyNormParam(),
    NegativeEigenvaluesParam(),
};
StatusOr<std::unique_ptr<TokenMixer>> MakeKda(const Params& params, const MixerShape& shape,
                                              const Scope& scope);

}  // namespace trireme
