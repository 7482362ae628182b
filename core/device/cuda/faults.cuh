// How a kernel reports an error in its data.
#pragma once

#include "core/device/cuda/faults.h"
#include "core/device/cuda/language.cuh"

namespace trireme {

__device__ inline void ReportFault(DeviceFaults* faults, DeviceFaultKind kind, int64_t value,
                                   int64_t limit) {
  if (atomicCAS(&faults->kind, 0, static_cast<int>(kind)) != 0) return;
  faults->value = value;
  faults->limit = limit;
}

}  // namespace trireme
