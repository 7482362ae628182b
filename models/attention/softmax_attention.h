#pragma once

#include "models/attention/token_mixer.h"

namespace trireme {

inline constexpr ParamInfo kSoftmaxAttentionParams[] = {
    {"heads", ParamType::kInt, nullptr, "query heads", 1},
    {"kv_heads", ParamType::kInt, "0", "key-value heads, a divisor of heads; 0: as many as heads",
     0},
    {"head_width", ParamType::kInt, "0", "channels of a head, even; 0: width / heads", 0},
    {"rotary_theta", ParamType::kFloat, "10000", "base of the rotary frequencies; 0: no positions",
     0},
    {"window", ParamType::kInt, "0", "keys a token sees, its own included; 0: all before it", 0},
    {"qk_norm", ParamType::kBool, "false", "RMS norm over each head of queries and keys"},
};
StatusOr<std::unique_ptr<TokenMixer>> MakeSoftmaxAttention(const Params& params,
                                                           const MixerShape& shape,
                                                           const Scope& scope);

}  // namespace trireme
