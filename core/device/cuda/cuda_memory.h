// Device memory and pinned host memory as sources for the caching allocator.
#pragma once

#include <cuda_runtime_api.h>

#include "core/device/caching_allocator.h"

namespace trireme {

class CudaMemory : public MemorySource {
 public:
  // `stream` is that of whoever uses the memory.
  CudaMemory(int ordinal, cudaStream_t stream) : ordinal_(ordinal), stream_(stream) {}
  const char* name() const override { return "the GPU"; }
  void* Allocate(size_t bytes) override;
  void Free(void* data, size_t bytes) override;
  void HandedOut(void* data, size_t bytes) override;
  void TakenBack(void* data, size_t bytes) override;

 private:
  const int ordinal_;
  const cudaStream_t stream_;
};

class PinnedMemory : public MemorySource {
 public:
  const char* name() const override { return "the system (pinned memory)"; }
  void* Allocate(size_t bytes) override;
  void Free(void* data, size_t bytes) override;
  void HandedOut(void*, size_t) override {}
  void TakenBack(void*, size_t) override {}
};

}  // namespace trireme
