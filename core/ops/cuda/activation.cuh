// Functions that several kernels compute with.
#pragma once

#include "core/device/cuda/language.cuh"

namespace trireme {

template <typename A>
__device__ inline A Sigmoid(A x) {
  return 1 / (1 + exp(-x));
}

}  // namespace trireme
