// Arguments of the attention kernels. Legend: n queries, m keys, h heads, g key-value heads, d and
// dv widths.
#pragma once

#include "core/tensor/view.h"

namespace trireme {

// out = softmax(scale q k^T) v over keys [begin, end) of each query; query head i reads key-value
// head i / (h / g). q [n, h, d], k [m, g, d], v [m, g, dv] have unit stride along the last
// dimension, the others are free; begin and end are dense i32 [n]; out [n, h, dv] is dense. lse [n,
// h], in the accumulation type, gets log sum exp(scale q k^T), -infinity for a query with no keys;
// it may be undefined.
struct AttentionArgs {
  View q, k, v, begin, end;
  View out, lse;
  double scale;
};

// Gradients from dout, with out and lse of the forward pass. dq, dk, dv are dense.
struct AttentionBackwardArgs {
  View q, k, v, begin, end;
  View out, lse, dout;
  View dq, dk, dv;
  double scale;
};

}  // namespace trireme
