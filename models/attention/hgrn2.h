// HGRN2 (Qin et al. 2024): a gated recurrence whose input gate is what the forget gate leaves over.
//
//   S_t = Diag(f_t) S_{t-1} + (1 - f_t) v_t^T,  o_t = S_t^T silu(q_t) / sqrt(K)
//   f = l + (1 - l) sigmoid(wf x)
//   y = wo RmsNorm(o), the norm over all heads
//
// l bounds the forget gates of a layer from below. The published layer learns it, starting from
// layer / layers; here it stays there.
#pragma once

#include "models/attention/linear_heads.h"

namespace trireme {

inline constexpr ParamInfo kHgrn2Params[] = {
    {"expand_ratio", ParamType::kInt, "128", "rows of the state of a head; heads = width / it", 1},
    {"lower_bound", ParamType::kFloat, "-1", "of forget gates, below 1; -1: layer / layers", -1},
};
StatusOr<std::unique_ptr<TokenMixer>> MakeHgrn2(const Params& params, const MixerShape& shape,
                                                const Scope& scope);

}  // namespace trireme
