#include "models/attention/linear_heads.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/base/share.h"
#include "models/layers/head_projections.h"

namespace trireme {

StatusOr<HeadSizes> ExpandedHeads(absl::string_view component, const Params& params,
                                  const MixerShape& shape) {
  HeadSizes sizes;
  sizes.heads = sizes.key_heads = params.Int("heads");
  ASSIGN_OR_RETURN(sizes.key_width, HeadWidth(component, "expand_k", params.Float("expand_k"),
                                              shape.width, sizes.heads));
  ASSIGN_OR_RETURN(sizes.value_width, HeadWidth(component, "expand_v", params.Float("expand_v"),
                                                shape.width, sizes.heads));
  RETURN_IF_ERROR(CheckHeadCut(component, shape.tensor, sizes.heads, sizes.key_heads));
  return sizes;
}

StatusOr<HeadSizes> GroupedHeads(absl::string_view component, const Params& params,
                                 const MixerShape& shape) {
  HeadSizes sizes;
  sizes.heads = params.Int("heads");
  sizes.key_heads = params.Int("key_heads") > 0 ? params.Int("key_heads") : sizes.heads;
  sizes.key_width = params.Int("head_width");
  ASSIGN_OR_RETURN(sizes.value_width,
                   HeadWidth(component, "expand_v", params.Float("expand_v"), sizes.key_width, 1));
  RETURN_IF_ERROR(CheckHeadCut(component, shape.tensor, sizes.heads, sizes.key_heads));
  return sizes;
}

Status CheckDecays(absl::string_view component, absl::string_view cause,
                   absl::Span<const double> log_decay) {
  for (size_t head = 0; head < log_decay.size(); ++head) {
    if (log_decay[head] <= 0 && std::isfinite(log_decay[head])) continue;
    return absl::InvalidArgumentError(absl::StrCat(component, ": ", cause, " gives head ", head,
                                                   " a decay of ", std::exp(log_decay[head]),
                                                   ", not one in (0, 1]"));
  }
  return absl::OkStatus();
}

Tensor ConstantDecay(const TensorAxis& axis, const Tensor& like,
                     absl::Span<const double> log_decay) {
  const Share mine = ShareOf(static_cast<int64_t>(log_decay.size()), axis.rank, axis.size);
  return Tensor::FromVector(like.device(), {mine.size()},
                            {log_decay.begin() + mine.first, log_decay.begin() + mine.last},
                            AccumulationType(like.dtype()));
}

// With a column of ones beside the values, the sums come with the outputs.
Tensor NormalizedRecurrence(RecurrenceInputs in, const TokenFlow& flow) {
  constexpr double kLeastSum = 1e-10;
  const int64_t n = in.v.dim(0), h = in.v.dim(1), v = in.v.dim(2);
  in.v = Concat({in.v, Tensor::Full(in.v.device(), {n, h, 1}, in.v.dtype(), 1)}, 2);
  const Tensor both = flow.Recur(in);
  return Div(Slice(both, 2, 0, v), Add(Slice(both, 2, v, 1), kLeastSum));
}

void AddRecurrence(const TensorAxis& axis, StateRule rule, const HeadSizes& sizes,
                   int64_t decay_width, UnitTraffic* traffic) {
  const int64_t k = sizes.key_width,
                transition = rule == StateRule::kDiagonal ? decay_width : k * k;
  traffic->recurrences.push_back({sizes.heads / axis.size, k, sizes.value_width, transition});
}

// Reading and writing the state; what it says of a key; what a low-rank transition adds.
double RecurrenceFlops(StateRule rule, const HeadSizes& sizes) {
  const int products = rule == StateRule::kDiagonal ? 2 : rule == StateRule::kDelta ? 3 : 4;
  return 2.0 * products * sizes.heads * sizes.key_width * sizes.value_width;
}

double NumTokens(const TokenLayout& layout) {
  double tokens = 0;
  for (const Segment& segment : layout.segments) tokens += segment.length;
  return tokens;
}

}  // namespace trireme
