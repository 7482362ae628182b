#include "core/device/cpu/host_memory.h"

#include <sys/mman.h>

#include <cstdlib>

// Under AddressSanitizer everything but the bytes asked for is poisoned, so that reading a freed
// tensor or past the end of one is found although the memory stays ours.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#endif

namespace trireme {

constexpr size_t kHugePage = size_t{2} << 20;

void* HostMemory::Allocate(size_t bytes) {
  void* data = std::aligned_alloc(kHugePage, bytes);
  if (data != nullptr) madvise(data, bytes, MADV_HUGEPAGE);  // Advice: some kernels refuse it.
  return data;
}

void HostMemory::Free(void* data, size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(data, bytes);
  std::free(data);
}

void HostMemory::HandedOut(void* data, size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(data, bytes); }

void HostMemory::TakenBack(void* data, size_t bytes) { ASAN_POISON_MEMORY_REGION(data, bytes); }

}  // namespace trireme
