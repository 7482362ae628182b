#include "core/device/workspace.h"

#include "core/device/device.h"

namespace trireme {

Workspace::Workspace(Device& device, int64_t bytes, const char* label)
    : device_(device),
      data_(ValueOrThrow(device.Allocate(bytes, MemoryKind::kWorkspace, label)).data),
      bytes_(bytes) {}

Workspace::~Workspace() {
  device_.Free({data_, static_cast<size_t>(bytes_), MemoryKind::kWorkspace});
}

}  // namespace trireme
