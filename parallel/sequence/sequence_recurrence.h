// Linear attention over tokens that are cut over the sequence axis.
#pragma once

#include "core/batch.h"
#include "core/ops/ops.h"
#include "parallel/sequence/recurrence_plan.h"

namespace trireme {

// On one rank, which has all tokens: LinearRecurrence along the documents of the layout. The state
// of each line (recurrence_plan.h), [lines, h, K, V], goes into its first document, and comes out
// of its last one.
RecurrenceOutputs WholeRecurrence(const RecurrenceInputs& inputs, const TokenLayout& layout,
                                  const Tensor& initial_state);

}  // namespace trireme
