#include "parallel/coding/weighted_sum.h"

#include <algorithm>

namespace trireme {
namespace {

// A tile of the output stays in the first cache while all parts are added to it.
constexpr int64_t kTile = 2048;

void First(double weight, const float* __restrict x, int64_t size, float* __restrict sum) {
  const float w = static_cast<float>(weight);
  for (int64_t i = 0; i < size; ++i) sum[i] = w * x[i];
}

// The product is rounded before it is added, lest the bits depend on whether there is an fma.
void Add(double weight, const float* __restrict x, int64_t size, float* __restrict sum) {
  if (weight == 1) {
    for (int64_t i = 0; i < size; ++i) sum[i] += x[i];
    return;
  }
  const float w = static_cast<float>(weight);
  for (int64_t i = 0; i < size; ++i) sum[i] += w * x[i];
}

void AddTwo(const WeightedPart& a, const WeightedPart& b, int64_t first, int64_t size,
            float* __restrict sum) {
  const float* __restrict x = a.values + first;
  const float* __restrict y = b.values + first;
  const float v = static_cast<float>(a.weight), w = static_cast<float>(b.weight);
  for (int64_t i = 0; i < size; ++i) sum[i] = (sum[i] + v * x[i]) + w * y[i];
}

}  // namespace

void WeightedSum(absl::Span<const WeightedPart> parts, int64_t size, float* out) {
  if (parts.empty()) {
    std::fill_n(out, size, 0.0f);
    return;
  }
  float sum[kTile];
  for (int64_t first = 0; first < size; first += kTile) {
    const int64_t tile = std::min(kTile, size - first);
    First(parts[0].weight, parts[0].values + first, tile, sum);
    size_t i = 1;
    for (; i + 1 < parts.size(); i += 2) AddTwo(parts[i], parts[i + 1], first, tile, sum);
    if (i < parts.size()) Add(parts[i].weight, parts[i].values + first, tile, sum);
    std::copy_n(sum, tile, out + first);
  }
}

}  // namespace trireme
