// Softmax attention of rotary queries over grouped keys and values, with an optional sliding
// window.
#pragma once

#include "models/attention/qkv_heads.h"

namespace trireme {

inline constexpr ParamInfo kSoftmaxAttentionParams[] = {
    kQkvHeadsParam,
    kQkvKvHeadsParam,
    kQkvHeadWidthParam,
    kQkvRotaryParam,
    {"window", ParamType::kInt, "0", "keys a token sees, its own included; 0: all before it", 0},
    kQkvNormParam,
};
StatusOr<std::unique_ptr<TokenMixer>> MakeSoftmaxAttention(const Params& params,
                                                           const MixerShape& shape,
                                                           const Scope& scope);

// Multiply-adds count two: products of queries with keys, and of weights with values; window 0:
// none.
double SoftmaxFlops(const TokenLayout& layout, const QkvSizes& sizes, int64_t window);
// Keys and values that other ranks of the sequence axis send.
void AddSoftmaxTraffic(const QkvSizes& sizes, const TensorAxis& tensor, UnitTraffic* traffic);

}  // namespace trireme
