// Kernels are typed slots, one table per device, filled from core/ops/kernels.def. Their arguments are
// PODs of Views, only declared here: the header of each op defines its own.
#pragma once

#include "core/base/log.h"
#include "core/device/device.h"

namespace trireme {

#define KERNEL(Name) struct Name##Args;
#include "core/ops/kernels.def"
#undef KERNEL

struct KernelTable {
#define KERNEL(Name) void (*Name)(Device&, const Name##Args&) = nullptr;
#include "core/ops/kernels.def"
#undef KERNEL
};

// Launch(device, &KernelTable::Copy, {src, dst}). The kernel may throw Failure (memory).
template <typename Args>
void Launch(Device& device, void (*KernelTable::*slot)(Device&, const Args&), const Args& args) {
  const auto kernel = device.kernels().*slot;
  CHECK(kernel != nullptr) << "a kernel is missing on " << device.name();
  kernel(device, args);
}

}  // namespace trireme
