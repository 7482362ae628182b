// How the mean of slices themselves travels (MakeDirectMean): small slices together.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace trireme {

// The elements of each all-reduce for slices of these sizes.
std::vector<int64_t> DirectMeanCalls(absl::Span<const int64_t> slice_sizes);

}  // namespace trireme
