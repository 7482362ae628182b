// Arguments of the normalizations over the last dimension. Matrices are [n, c], contiguous; mean
// and rstd are [n], in the accumulation type. Without a mean these are RMS norms.
#pragma once

#include "core/tensor/view.h"

namespace trireme {

// y = (x - mean) rstd gain + bias, with mean and rstd = 1 / sqrt(variance + epsilon) computed here.
// When `mean` is undefined: y = x rstd gain with rstd = 1 / sqrt(mean(x^2) + epsilon). bias may be
// undefined.
struct NormArgs {
  View x, gain, bias, y, mean, rstd;
  double epsilon;
};

// With g = dy gain and z = (x - mean) rstd: dx = rstd (g - mean(g) - z mean(g z)); mean(g) only
// with a mean.
struct NormBackwardArgs {
  View x, gain, dy, mean, rstd, dx;
};

// dgain = sum over rows of dy z, or dgain += that; in the accumulation type.
struct NormGainGradArgs {
  View x, dy, mean, rstd, dgain;
  bool accumulate = false;
};

}  // namespace trireme
