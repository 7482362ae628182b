// Mixture of memories (Du et al. 2025, MoM): several states for each head, of which a token reads
// and writes the few that a router picks for it, and one that all tokens share.
//
//   p = softmax(router x),  w_e = p_e / (sum of the picked p) for the top_k memories, else 0
//   o_t = sum over e of w_te o^e_t, plus that of the shared memory
//   y = wo (silu(wg x) RmsNorm(o))
//
// o^e is a recurrence (`base`) over the tokens that picked e, with keys, values and gates of its
// own, or, with single_kv, those of all memories. Convolutions run over all tokens of a document:
// the neighbours of a token are the same whatever is picked. Tokens are sorted by memory, so that a
// recurrence costs what the picks cost.
//
// Training adds, for each token, balance E sum over the E memories of p_te f_te, where f_te is the
// share of e among the picks of the document so far: no token is told of later ones, and what is
// summed does not depend on how a batch is cut. It is 1 where all memories are picked alike.
#pragma once

#include "models/attention/delta_inputs.h"

namespace trireme {

inline constexpr ParamInfo kMomParams[] = {
    {"base", ParamType::kString, "gated_deltanet", "what a memory does; linear: S + k v^T",
     -kUnbounded, kUnbounded, "gated_deltanet|deltanet|linear"},
    HeadsParam("4"),
    {"head_width", ParamType::kInt, "256", "channels of queries and keys of a head", 1},
    {"expand_v", ParamType::kFloat, "2", "channels of a head of values over head_width", 0},
    {"memories", ParamType::kInt, "8", "beside the shared one", 1},
    {"top_k", ParamType::kInt, "2", "memories that a token picks", 1},
    {"shared_memory", ParamType::kBool, "true", "one more memory, of all tokens"},
    {"single_kv", ParamType::kBool, "false",
     "keys, values and gates are the same for all memories"},
    {"balance", ParamType::kFloat, "0.01", "weight of the loss that spreads tokens over memories",
     0},
    ConvSizeParam(),
};
StatusOr<std::unique_ptr<TokenMixer>> MakeMom(const Params& params, const MixerShape& shape,
                                              const Scope& scope);

}  // namespace trireme
