// Errors in the data that only a kernel sees, a label out of range say. The kernel writes the first
// one down in pinned host memory and goes on with something harmless; Device::Synchronize reports it.
#pragma once

#include <cstdint>

#include "core/device/cuda/language.cuh"

namespace trireme {

enum class DeviceFaultKind : int { kNone, kLabelOutOfRange, kIdOutOfRange, kIndexOutOfRange };

struct DeviceFaults {
  int kind;       // DeviceFaultKind of the first fault.
  int64_t value;  // What was found,
  int64_t limit;  // which should have been in [0, limit).
};

__device__ inline void ReportFault(DeviceFaults* faults, DeviceFaultKind kind, int64_t value,
                                   int64_t limit) {
  if (atomicCAS(&faults->kind, 0, static_cast<int>(kind)) != 0) return;
  faults->value = value;
  faults->limit = limit;
}

}  // namespace trireme
