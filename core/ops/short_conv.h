// Arguments of the short convolution kernels. Legend: n tokens, p runs, c channels, w taps.
#pragma once

#include "core/ops/recurrence.h"
#include "core/tensor/view.h"

namespace trireme {

// y_t = bias + sum over j < w of weight[:, w - 1 - j] x_{t - j} along each run; history [p, w - 1,
// c] are the rows before the runs (undefined: zeros), bias may be undefined. x [n, c] has rows of
// unit stride, the others are dense. Rows of y outside of the runs are not written. `runs` is on
// the host.
struct ShortConvArgs {
  View x, weight, bias, history;
  const TokenRun* runs;
  int64_t num_runs;
  View y;
};

// Gradients from dy [n, c], with rows of unit stride; what is not defined is not computed. dx [n,
// c] and dhistory [p, w - 1, c] are dense, in the type of x; rows of dx outside of the runs are not
// written. dweight [c, w] and dbias [c] are dense, in the accumulation type, and with `accumulate`
// they are added to. weight, of `taps` columns, is read for dx and dhistory only: the other
// gradients may be asked for when a weight that is shared out has no memory.
struct ShortConvBackwardArgs {
  View x, weight, history, dy;
  int64_t taps;
  const TokenRun* runs;
  int64_t num_runs;
  View dx, dhistory, dweight, dbias;
  bool accumulate = false;
};

}  // namespace trireme
