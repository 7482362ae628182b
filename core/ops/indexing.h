// Arguments of the kernels that look elements up. Indices are i64; the kernel checks their range
// and throws Failure(OUT_OF_RANGE).
#pragma once

#include "core/tensor/view.h"

namespace trireme {

// y[i, :] = table[ids[i] - first, :], for ids [n] in [0, count), table [v, c], y [n, c],
// contiguous. Zero where the id is not in [first, first + v).
struct EmbeddingArgs {
  View ids, table, y;
  int64_t first, count;
};

// dtable[ids[i] - first, :] += dy[i, :], in the order of i. dtable is in the accumulation type of
// dy; when `fresh`, it is zeroed first.
struct EmbeddingBackwardArgs {
  View ids, dy, dtable;
  int64_t first;
  bool fresh;
};

// y[o, k, i] = x[o, index[o, k, i], i], for x [outer, m, inner], index and y [outer, n, inner],
// contiguous.
struct GatherArgs {
  View x, index, y;
};

// y[o, index[o, k, i], i] += src[o, k, i], in the order of k; y [outer, m, inner] is in the
// accumulation type of src.
struct ScatterAddArgs {
  View index, src, y;
};

}  // namespace trireme
