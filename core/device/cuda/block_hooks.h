// What a checker of device memory is told of the caching allocator's blocks, since the driver only
// sees segments. Both are absent (weak) in the product; the emulated device defines them. They
// count in stream order: what was queued on `stream` before a block is taken back may use it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

extern "C" {
__attribute__((weak)) void trireme_device_block_allocated(void* data, size_t bytes,
                                                          cudaStream_t stream);
__attribute__((weak)) void trireme_device_block_freed(void* data, size_t bytes,
                                                      cudaStream_t stream);
}

namespace trireme {

inline void TellBlockHandedOut(void* data, size_t bytes, cudaStream_t stream) {
  if (trireme_device_block_allocated != nullptr) {
    trireme_device_block_allocated(data, bytes, stream);
  }
}

inline void TellBlockTakenBack(void* data, size_t bytes, cudaStream_t stream) {
  if (trireme_device_block_freed != nullptr) trireme_device_block_freed(data, bytes, stream);
}

}  // namespace trireme
