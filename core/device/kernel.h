// Kernels are typed slots, one table per device, filled from core/ops/kernels.def. Their arguments
// are PODs of Views, only declared here: the header of each op defines its own.
#pragma once

#include <set>
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

// The names of the slots that a table leaves empty, of those that every model uses and those in
// `of_model`. What trains looks before anything is allocated.
inline std::vector<std::string> MissingKernels(const KernelTable& table,
                                               const std::set<std::string>& of_model) {
  std::vector<std::string> names;
#define KERNEL(Name) \
  if (table.Name == nullptr) names.push_back(#Name);
#define MODEL_KERNEL(Name) \
  if (table.Name == nullptr && of_model.count(#Name) > 0) names.push_back(#Name);
#include "core/ops/kernels.def"
#undef KERNEL
  return names;
}
// Those that only some models use.
inline std::set<std::string> ModelKernels() {
  std::set<std::string> names;
#define KERNEL(Name)
#define MODEL_KERNEL(Name) names.insert(#Name);
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
