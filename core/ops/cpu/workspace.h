// Scratch memory of one kernel launch, from the device's allocator.
#pragma once

#include "absl/strings/string_view.h"

#include "core/device/device.h"

namespace trireme {

class Workspace {
 public:
  // Throws Failure when memory runs out.
  Workspace(Device& device, size_t bytes, absl::string_view label)
      : device_(device),
        block_(ValueOrThrow(device.Allocate(bytes, MemoryKind::kWorkspace, label))) {}
  ~Workspace() { device_.Free(block_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(block_.data);
  }

 private:
  Device& device_;
  const Block block_;
};

}  // namespace trireme
