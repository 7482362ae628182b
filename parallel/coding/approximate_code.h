// Codes that decode an estimate: what they are made of.
#pragma once

#include <memory>
#include <vector>

#include "parallel/coding/gradient_code.h"

namespace trireme {

enum class Estimate {
  kOptimal,  // Weights that make the error least.
  kOneStep,  // One weight for all that arrived, so that parts come out right on average.
  kSum,      // The sum of what arrived: the messages carry their weights.
};

// n parts of one size; worker w has parts rows[w]. Decodes, with an error, when all but s workers
// have arrived.
std::unique_ptr<GradientCode> MakeApproximateCode(absl::string_view name, int s,
                                                  std::vector<std::vector<PartTerm>> rows,
                                                  Estimate estimate);

// INVALID_ARGUMENT when each part shall be at more than n workers.
Status CheckReplicas(absl::string_view name, int num_workers, int64_t replicas);

// 0 .. n - 1 in an order drawn from (seed, name).
std::vector<int> DrawnOrder(int n, uint64_t seed, absl::string_view name);

}  // namespace trireme
