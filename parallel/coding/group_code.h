// Workers in groups that have the same part: the code behind uncoded and fractional repetition, and
// the base of the sequential codes.
#pragma once

#include <memory>

#include "parallel/coding/gradient_code.h"

namespace trireme {

// Worker w is in group w mod k, so that neighbours (of a node, of a rack) have different parts.
// Each of the k parts is 1 / k of the job. All weights are 1: it decodes when somebody of each
// group has arrived, the first of them by number counts, and as all of a group compute the same
// bits, the gradient does not depend on who that is. REQUIRES: 1 <= num_groups <= num_workers.
std::unique_ptr<GradientCode> MakeGroupCode(absl::string_view name, int num_workers,
                                            int num_groups);

}  // namespace trireme
