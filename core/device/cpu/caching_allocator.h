// A caching allocator with high-water marks by category.
#pragma once

#include <mutex>
#include <string>
#include <unordered_map>

#include "absl/strings/string_view.h"

#include "core/device/device.h"

namespace trireme {

class CachingAllocator {
 public:
  explicit CachingAllocator(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  StatusOr<Block> Allocate(size_t bytes, MemoryKind kind, absl::string_view label);
  void Free(const Block& block);
  MemoryStats stats() const;
  void ResetPeaks();

 private:
  const int64_t limit_bytes_;
  mutable std::mutex mutex_;
  MemoryStats stats_;
};

}  // namespace trireme
