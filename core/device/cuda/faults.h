// Errors in the data that only a kernel sees, a label out of range say. The kernel writes the first
// one down in pinned host memory and goes on with something harmless; Device::Synchronize reports
// it.
#pragma once

#include <cstdint>

namespace trireme {

enum class DeviceFaultKind : int { kNone, kLabelOutOfRange, kIdOutOfRange, kIndexOutOfRange };

struct DeviceFaults {
  int kind;       // DeviceFaultKind of the first fault.
  int64_t value;  // What was found,
  int64_t limit;  // which should have been in [0, limit).
};

}  // namespace trireme
