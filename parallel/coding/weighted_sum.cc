#include "parallel/coding/weighted_sum.h"

#include <algorithm>

namespace trireme {
namespace {

// Parts that are read side by side: with more, streams push each other out of the first cache.
constexpr int kTogether = 4;
// Elements of the output that stay in the first cache while the next parts are added to them.
constexpr int64_t kTile = 4096;
// A line, in elements, and how far ahead parts are asked for: the end of a tile is not where the
// hardware expects to go on.
constexpr int64_t kLine = 16, kAhead = 256;

// sum[i] = (kFirst ? 0 : sum[i]) + weight * values[i] for N parts, one after the other.
template <int N, bool kFirst>
void AddParts(const WeightedPart* parts, int64_t first, int64_t size, int64_t end,
              float* __restrict sum) {
  const float* x[N];
  float w[N];
  for (int k = 0; k < N; ++k) {
    x[k] = parts[k].values + first;
    w[k] = static_cast<float>(parts[k].weight);
  }
  int64_t i = 0;
  for (; i + kLine <= size; i += kLine) {
    if (first + i + kAhead < end) {
      for (int k = 0; k < N; ++k) __builtin_prefetch(x[k] + i + kAhead);
    }
    float line[kLine];
    for (int64_t j = 0; j < kLine; ++j) {
      line[j] = kFirst ? w[0] * x[0][i + j] : sum[i + j] + w[0] * x[0][i + j];
    }
    for (int k = 1; k < N; ++k) {
      for (int64_t j = 0; j < kLine; ++j) line[j] += w[k] * x[k][i + j];
    }
    for (int64_t j = 0; j < kLine; ++j) sum[i + j] = line[j];
  }
  for (; i < size; ++i) {
    float element = kFirst ? w[0] * x[0][i] : sum[i] + w[0] * x[0][i];
    for (int k = 1; k < N; ++k) element += w[k] * x[k][i];
    sum[i] = element;
  }
}

template <bool kFirst>
void AddGroup(absl::Span<const WeightedPart> parts, int64_t first, int64_t size, int64_t end,
              float* sum) {
  switch (parts.size()) {
    case 1:
      return AddParts<1, kFirst>(parts.data(), first, size, end, sum);
    case 2:
      return AddParts<2, kFirst>(parts.data(), first, size, end, sum);
    case 3:
      return AddParts<3, kFirst>(parts.data(), first, size, end, sum);
    default:
      return AddParts<4, kFirst>(parts.data(), first, size, end, sum);
  }
}

}  // namespace

void WeightedSum(absl::Span<const WeightedPart> parts, int64_t size, float* out) {
  if (parts.empty()) {
    std::fill_n(out, size, 0.0f);
    return;
  }
  for (int64_t first = 0; first < size; first += kTile) {
    const int64_t tile = std::min(kTile, size - first);
    AddGroup<true>(parts.subspan(0, kTogether), first, tile, size, out + first);
    for (size_t i = kTogether; i < parts.size(); i += kTogether) {
      AddGroup<false>(parts.subspan(i, kTogether), first, tile, size, out + first);
    }
  }
}

}  // namespace trireme
