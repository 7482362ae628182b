// Linear attention (ops.h): shapes, memory and gradients around its kernels.
#include "core/ops/recurrence.h"

#include "core/ops/ops.h"

namespace trireme {

RecurrenceOutputs LinearRecurrence(const RecurrenceInputs& inputs, absl::Span<const TokenRun> runs,
                                   const Tensor& initial_state) {
  return LinearRecurrenceReference(inputs, runs, initial_state);
}

}  // namespace trireme
