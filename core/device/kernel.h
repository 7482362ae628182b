// Kernels are typed slots, one table per device, filled from core/ops/kernels.def. Their arguments
// are PODs of Views, only declared here: the header of each op defines its own.
#pragma once

#include <string>
#include <vector>

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

// The names of the slots that a table leaves empty. What trains looks before anything is allocated.
inline std::vector<std::string> MissingKernels(const KernelTable& table) {
  std::vector<std::string> names;
#define KERNEL(Name) \
  if (table.Name == nullptr) names.push_back(#Name);
#include "core/ops/kernels.def"
#undef KERNEL
  return names;
}

// Launch(device, &KernelTable::Copy, {src, dst}). The kernel may throw Failure (memory).
template <typename Args>
void Launch(Device& device, void (*KernelTable::*slot)(Device&, const Args&), const Args& args) {
  const auto kernel = device.kernels().*slot;
  CHECK(kernel != nullptr) << "a kernel is missing on " << device.name();
  kernel(device, args);
}

}  // namespace trireme
