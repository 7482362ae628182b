// Linear attention over tokens that are cut over the sequence axis (recurrence_plan.h). Each rank
// works as if nothing entered its slots, while a scan (affine_scan.h) finds what does; one product
// per run then corrects the outputs:
//   o_t += Q_t^T S_in,   Q_t the entry queries (RecurrenceTransitionArgs).
// Backward the scan runs first, since its maps are one product too: dS_loc = sum over t of Q_t
// do_t^T. It then needs S_in, which is kept, and dS_out, which the scan brings; all else is local.
// Nothing that travels depends on the number of tokens.
#pragma once

#include "core/batch.h"
#include "core/ops/ops.h"
#include "parallel/sequence/affine_scan.h"
#include "parallel/sequence/recurrence_plan.h"

namespace trireme {

// On one rank, which has all tokens: LinearRecurrence along the runs of the plan. The state of each
// line, [lines, h, K, V], goes into its first run, and comes out of its last one.
RecurrenceOutputs WholeRecurrence(const RecurrenceInputs& inputs, const RecurrencePlan& plan,
                                  const Tensor& initial_state);

// The same over the ranks of `scan`, which must outlive the graph. The plan is this rank's, and was
// made with `continued` when initial_state is given (on every rank; read on that of the first
// slot). The final state comes out on the rank of the last slot, and is undefined on the others. A
// collective, in backward too.
RecurrenceOutputs SequenceRecurrence(const RecurrenceInputs& inputs, RecurrencePlan plan,
                                     const AffineScan& scan, const Tensor& initial_state);

}  // namespace trireme
