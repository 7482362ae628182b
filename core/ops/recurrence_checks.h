// The shapes that LinearRecurrence, ShortConv and their definitions take.
#pragma once

#include "absl/types/span.h"

#include "core/ops/ops.h"

namespace trireme {

void CheckRecurrence(const RecurrenceInputs& inputs, absl::Span<const TokenRun> runs,
                     const Tensor& initial_state);
void CheckShortConv(const Tensor& x, const Tensor& weight, const Tensor& bias,
                    absl::Span<const TokenRun> runs, const Tensor& history);

}  // namespace trireme
