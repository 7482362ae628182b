// DeltaNet (Yang et al. 2024): a token replaces what the state says of its key. See delta_inputs.h.
//
//   S_t = (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T
//   o_t = S_t^T q_t / sqrt(K),  y = wo RmsNorm(o)
#pragma once

#include "models/attention/delta_inputs.h"

namespace trireme {

inline constexpr ParamInfo kDeltaNetParams[] = {
    HeadsParam("4"), ExpandKParam("1"), ExpandVParam("1"),
    ConvSizeParam(), KeyNormParam(),    NegativeEigenvaluesParam(),
};
StatusOr<std::unique_ptr<TokenMixer>> MakeDeltaNet(const Params& params, const MixerShape& shape,
                                                   const Scope& scope);

}  // namespace trireme
