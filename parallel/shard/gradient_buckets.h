// Which gradients travel together: buckets of whole units, from the last unit to the first, tied
// parameters at the end. From declared sizes alone: ranks whose parts are of unequal size must cut
// the same buckets, since they add up partial gradients bucket by bucket.
#pragma once

#include <cstdint>
#include <vector>

#include "core/module/parameter.h"

namespace trireme {

// Parameters of layout units [first, last].
struct GradientBucket {
  int first = 0, last = 0;
  bool tied = false;  // What several stages have.
  std::vector<int> parameters;
};

// The layout unit of each parameter: 0 for those that other stages have too, else one more than its
// unit.
std::vector<int> GradientLayout(const ParameterSet& parameters);

// owners, tensor: how many ranks share the ownership, and the sizes that the tensor axis cuts. A
// bucket closes when it has bucket_bytes.
std::vector<GradientBucket> MakeGradientBuckets(const ParameterSet& parameters, int owners,
                                                int tensor, int64_t element_bytes,
                                                int64_t bucket_bytes);

}  // namespace trireme
