// What the entries of linear attention have in common: sizes of heads, the lines of their parameter
// tables, checks.
#pragma once

#include <vector>

#include "core/ops/ops.h"
#include "models/attention/token_mixer.h"

namespace trireme {

struct HeadSizes {
  int64_t heads = 0;      // Of values and states.
  int64_t key_heads = 0;  // A divisor of heads.
  int64_t key_width = 0, value_width = 0;
};

constexpr ParamInfo HeadsParam(const char* default_value) {
  return {"heads", ParamType::kInt, default_value, "heads", 1};
}
constexpr ParamInfo KeyHeadsParam() {
  return {"key_heads", ParamType::kInt, "0",
          "heads of queries and keys, a divisor of heads; 0: as many as heads", 0};
}
constexpr ParamInfo ExpandKParam(const char* default_value) {
  return {"expand_k", ParamType::kFloat, default_value, "channels of all keys over the width", 0};
}
constexpr ParamInfo ExpandVParam(const char* default_value) {
  return {"expand_v", ParamType::kFloat, default_value, "channels of all values over the width", 0};
}
constexpr ParamInfo ConvSizeParam() {
  return {"conv_size", ParamType::kInt, "4", "taps of the short convolutions; 0: none", 0};
}

// Of tables with heads, expand_k and expand_v, or with heads, key_heads, head_width and expand_v.
// INVALID_ARGUMENT when the heads do not divide the channels, or cannot be cut over the tensor
// axis.
StatusOr<HeadSizes> ExpandedHeads(absl::string_view component, const Params& params,
                                  const MixerShape& shape);
StatusOr<HeadSizes> GroupedHeads(absl::string_view component, const Params& params,
                                 const MixerShape& shape);

// INVALID_ARGUMENT when a state would grow from token to token: a log decay above zero. `cause`
// says what gave it.
Status CheckDecays(absl::string_view component, absl::string_view cause,
                   absl::Span<const double> log_decay);
// This rank's of the decays of all heads, in the accumulation type.
Tensor ConstantDecay(const TensorAxis& axis, const Tensor& like,
                     absl::Span<const double> log_decay);

// The outputs divided by the sums of their weights, which must not be negative.
Tensor NormalizedRecurrence(RecurrenceInputs in, const TokenFlow& flow);

// What a recurrence says along the sequence axis. Of a decay that is made from the token,
// decay_width is 1 or the key width; else 0.
void AddRecurrence(const TensorAxis& axis, StateRule rule, const HeadSizes& sizes,
                   int64_t decay_width, UnitTraffic* traffic);
// Of the recurrence itself, for a token.
double RecurrenceFlops(StateRule rule, const HeadSizes& sizes);
double NumTokens(const TokenLayout& layout);

}  // namespace trireme
