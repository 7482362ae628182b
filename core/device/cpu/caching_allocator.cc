#include "core/device/cpu/caching_allocator.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace trireme {

CachingAllocator::~CachingAllocator() = default;

StatusOr<Block> CachingAllocator::Allocate(size_t bytes, MemoryKind kind, absl::string_view label) {
  const size_t rounded = (std::max<size_t>(bytes, 1) + 63) / 64 * 64;
  void* data = std::aligned_alloc(64, rounded);
  if (data == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes for ", label));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  const int k = static_cast<int>(kind);
  stats_.current_bytes[k] += bytes;
  stats_.peak_bytes[k] = std::max(stats_.peak_bytes[k], stats_.current_bytes[k]);
  stats_.current_total_bytes += bytes;
  stats_.peak_total_bytes = std::max(stats_.peak_total_bytes, stats_.current_total_bytes);
  return Block{data, bytes, kind};
}

void CachingAllocator::Free(const Block& block) {
  std::free(block.data);
  std::lock_guard<std::mutex> lock(mutex_);
  stats_.current_bytes[static_cast<int>(block.kind)] -= block.bytes;
  stats_.current_total_bytes -= block.bytes;
}

MemoryStats CachingAllocator::stats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

void CachingAllocator::ResetPeaks() {
  std::lock_guard<std::mutex> lock(mutex_);
  stats_.peak_bytes = stats_.current_bytes;
  stats_.peak_total_bytes = stats_.current_total_bytes;
}

}  // namespace trireme
