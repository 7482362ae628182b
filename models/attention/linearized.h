// Linear attention in place of trained softmax attention: it has the parameters of `softmax`, so
// that it starts from a checkpoint of it (init_from), and computes
//
//   hedgehog  o_t = sum over s <= t of w_ts v_s / sum of w_ts with w_ts = phi_q(q_t) . phi_k(k_s),
//   the feature map
//             of Zhang et al. 2024, learned by attention transfer
//   liger     o_t = (softmax attention over the last `window` tokens) / 2 + S_t^T softmax(q_t) / 2
//   with
//             S_t = Diag(e^{g_t}) S_{t-1} + softmax(k_t) v_t^T, g = log sigmoid(k) / 16: the gates
//             come from the keys, nothing is new (Lan et al. 2025)
//
// With `transfer`, training passes on what softmax attention gives, and the mean square of the
// difference of the outputs of the heads is one more loss, of the feature maps alone (LoLCATs,
// Zhang et al. 2024, stage one); evaluation uses the linear attention. What comes then is
// adaptation by LoRA, without `transfer`.
#pragma once

#include "models/attention/qkv_heads.h"

namespace trireme {

inline constexpr ParamInfo kLinearizedParams[] = {
    kQkvHeadsParam,
    kQkvKvHeadsParam,
    kQkvHeadWidthParam,
    kQkvRotaryParam,
    kQkvNormParam,
    {"form", ParamType::kString, "hedgehog", "what stands in for the softmax", -kUnbounded,
     kUnbounded, "hedgehog|liger"},
    {"window", ParamType::kInt, "64", "of liger: keys that its softmax part sees", 1},
    {"transfer", ParamType::kBool, "false", "learn the feature maps from the outputs of softmax"},
};
StatusOr<std::unique_ptr<TokenMixer>> MakeLinearized(const Params& params, const MixerShape& shape,
                                                     const Scope& scope);

}  // namespace trireme
