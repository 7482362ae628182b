// Linear attention without a causal mask: every token reads the sum over its whole document,
//   o_t = scale T^T q_t,   T = sum of k_i v_i^T over the document,
// also over tokens that are cut over the sequence axis (Sun et al. 2025, LASP-2, algorithms 1 and
// 3). What other ranks have of the sums comes from the scan, run in both directions; backward the
// sums of scale q_t do_t^T go the same way.
#pragma once

#include "core/tensor/tensor.h"
#include "parallel/sequence/affine_scan.h"
#include "parallel/sequence/recurrence_plan.h"

namespace trireme {

// q, k [n, g, K], v [n, h, V], g divides h -> [n, h, V], differentiable. `scan` nullptr: this rank
// has all tokens; else a collective, in backward too, and `scan` outlives the graph.
Tensor UnmaskedAttention(const Tensor& q, const Tensor& k, const Tensor& v, double scale,
                         const RecurrencePlan& plan, const AffineScan* scan);

}  // namespace trireme
