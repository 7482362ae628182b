// RWKV-7 (Peng et al. 2025): a state that decays by channels, forgets along a direction of its own
// (a, b), and takes in keys of any length. Each projection reads a mix of the token and the one
// before, x + (x' - x) mu.
//
//   S_t = Diag(w_t) S_{t-1} + b_t (a_t^T S_{t-1}) + k'_t v_t^T,  o_t = S_t^T r_t
//   log w = -e^-1/2 sigmoid(W2 tanh(W1 x_w) + b_w),  eta = sigmoid(A2 A1 x_a + b_a)
//   kappa = L2Norm(k k_k),  a = -kappa,  b = kappa eta,  k' = k (1 + (eta - 1) k_a)
//   y = wo (g (GroupNorm(o) + (sum of r k' r_k) v)),  g = G2 sigmoid(G1 x_g)
//
// Published models of several layers also mix the values of the first layer into those of later
// ones. Between layers there is one tensor here, the stream, for pipeline stages and recomputation
// alike; so each layer keeps to its own values.
#pragma once

#include "models/attention/linear_heads.h"

namespace trireme {

inline constexpr ParamInfo kRwkv7Params[] = {
    {"head_width", ParamType::kInt, "64", "channels of a head; heads = width / it", 2},
    {"decay_rank", ParamType::kInt, "0",
     "of the product that makes w; 0: 2.5 sqrt(width) head_width / 64, "
     "rounded to 32s",
     0},
    {"rate_rank", ParamType::kInt, "0", "of the product that makes eta; 0: as decay_rank", 0},
    {"gate_rank", ParamType::kInt, "0",
     "of the product that makes g; 0: 5 sqrt(width), rounded to 32s", 0},
};
StatusOr<std::unique_ptr<TokenMixer>> MakeRwkv7(const Params& params, const MixerShape& shape,
                                                const Scope& scope);

}  // namespace trireme
