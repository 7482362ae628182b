// A decoder-only transformer: token embedding, layers of (norm, mixer, norm, SwiGLU) with residual
// streams, a final norm and a head. Which mixer a layer has is a pattern of letters, repeated:
// "LLLS".
#pragma once

#include "models/models.h"

namespace trireme {

inline constexpr ParamInfo kTransformerParams[] = {
    {"width", ParamType::kInt, nullptr, "channels of the hidden state", 1},
    {"num_layers", ParamType::kInt, nullptr, "layers", 1},
    {"layers", ParamType::kString, "S",
     "pattern of mixer letters, repeated over the layers; each "
     "letter is a part of the model"},
    {"mlp_width", ParamType::kInt, nullptr, "channels inside the SwiGLU", 1},
    {"vocab_size", ParamType::kInt, "0", "tokens; 0: as many as the data has", 0},
    {"tied_head", ParamType::kBool, "false", "the head is the embedding"},
    {"dropout", ParamType::kFloat, "0", "on the embedding and on what each layer adds", 0, 0.99},
    {"norm_epsilon", ParamType::kFloat, "1e-5", "added to the mean square", 0},
    {"init_stddev", ParamType::kFloat, "0.02",
     "of all weights; those that write the residual stream "
     "are divided by sqrt(2 num_layers)",
     0},
};
StatusOr<std::unique_ptr<Model>> MakeTransformer(const Params& params,
                                                 const ComponentConfig& config,
                                                 const DataShape& data, const ModelLayout& layout);

}  // namespace trireme
