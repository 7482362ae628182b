#include "parallel/shard/gradient_buckets.h"

#include <algorithm>
#include <utility>

namespace trireme {

std::vector<int> GradientLayout(const ParameterSet& parameters) {
  std::vector<int> layout;
  for (const auto& parameter : parameters.parameters()) {
    const bool tied = parameter->units.size() < parameter->spec.units.size();
    layout.push_back(tied ? 0 : 1 + parameter->unit());
  }
  return layout;
}

std::vector<GradientBucket> MakeGradientBuckets(const ParameterSet& parameters, int owners,
                                                int tensor, int64_t element_bytes,
                                                int64_t bucket_bytes) {
  const std::vector<int> layout = GradientLayout(parameters);
  std::vector<GradientBucket> buckets;
  if (layout.empty()) return buckets;
  GradientBucket bucket;
  int64_t bytes = 0;
  for (int unit = *std::max_element(layout.begin(), layout.end()); unit >= 0; --unit) {
    if (bucket.parameters.empty()) bucket = {unit, unit, /*tied=*/unit == 0, {}};
    for (size_t i = 0; i < layout.size(); ++i) {
      const ParamSpec& spec = parameters.parameters()[i]->spec;
      if (layout[i] != unit || spec.frozen) continue;
      const int cuts = spec.split.empty() ? 1 : tensor / spec.copies;
      bytes += spec.global.numel() * element_bytes / (cuts * owners);
      bucket.parameters.push_back(static_cast<int>(i));
    }
    bucket.first = unit;
    if (bucket.parameters.empty() || (unit > 1 && bytes < bucket_bytes)) continue;
    buckets.push_back(std::exchange(bucket, GradientBucket()));
    bytes = 0;
  }
  return buckets;
}

}  // namespace trireme
