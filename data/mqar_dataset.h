// Multi-query associative recall (Arora et al. 2023, Zoology, appendix E): pairs of a key and a
// value, then tokens among which each key comes once more, and its value is the label there. What a
// model recalls over a distance shows the size of its memory: attention has all of it, a
// linear-attention state what fits.
#pragma once

#include <memory>

#include "data/dataset.h"

namespace trireme {

inline constexpr ParamInfo kMqarParams[] = {
    {"num_pairs", ParamType::kInt, "8", "keys, and values, of a sample", 1, 1 << 20},
    {"vocabulary_size", ParamType::kInt, "256",
     "tokens: the lower half are keys, the upper half values", 4, (int64_t{1} << 31) - 1},
    {"num_samples", ParamType::kInt, "100000", "samples to train on", 1, int64_t{1} << 40},
    {"num_validation_samples", ParamType::kInt, "1000", "samples held out", 0, int64_t{1} << 40},
    {"power", ParamType::kFloat, "0.01",
     "a query comes d places of two tokens after the pairs with a probability in proportion to "
     "d^(power - 1)",
     1e-6, 1},
    {"seed", ParamType::kInt, "0", "of the samples", 0},
};
StatusOr<std::unique_ptr<Dataset>> MakeMqar(const Params& params, const DatasetContext& context);

}  // namespace trireme
