// Arguments of the attention kernels. Legend: n queries, m keys, h heads, g key-value heads, d and
// dv widths.
#pragma once

#include "core/tensor/view.h"

namespace trireme {

// out = softmax(scale q k^T) v over keys [begin, end) of each query; query head i reads key-value
// head i / (h / g). q [n, h, d], k [m, g, d], v [m, g, dv] have unit stride along the last
// dimension, the others are free; begin and end are dense i32 [n]; out [n, h, dv] is dense. lse [n,
// h], in the accumulation type, gets log sum exp(scale q k^T), -infinity for a query with no keys;
// it may be undefined. out has the type of q, or the accumulation type.
//
// With `resume`, out and lse hold the result over other keys, and get the one over those and these:
// keys may come in parts. out is in the accumulation type then.
struct AttentionArgs {
  View q, k, v, begin, end;
  View out, lse;
  double scale;
  bool resume = false;
};

// delta = scale rowsum(dout * out): out and dout [n, h, dv], of one type, out dense; delta [n, h],
// dense, in the accumulation type.
struct AttentionDeltaArgs {
  View out, dout;
  View delta;
  double scale;
};

// Gradients from dout, with the lse and delta of all keys, of which k and v may be a part. dq, dk,
// dv are dense, of the type of q or the accumulation type; with `accumulate`, they are in the
// accumulation type and are added to.
struct AttentionBackwardArgs {
  View q, k, v, begin, end;
  View lse, delta, dout;
  View dq, dk, dv;
  double scale;
  bool accumulate = false;
};

}  // namespace trireme
