// The memory of the host as a source for the caching allocator.
#pragma once

#include "core/device/caching_allocator.h"

namespace trireme {

class HostMemory : public MemorySource {
 public:
  const char* name() const override { return "the system"; }
  void* Allocate(size_t bytes) override;
  void Free(void* data, size_t bytes) override;
  void HandedOut(void* data, size_t bytes) override;
  void TakenBack(void* data, size_t bytes) override;
};

}  // namespace trireme
