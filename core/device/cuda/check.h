// Return codes of the CUDA libraries, none of which is ignored. No Abseil here: kernels include it.
#pragma once

#include <cuda_runtime_api.h>

namespace trireme {

// Throws Failure: RESOURCE_EXHAUSTED when the device is out of memory, else INTERNAL with the file,
// the line, the call and what CUDA says of the code.
[[noreturn]] void ThrowCudaError(cudaError_t code, const char* call, const char* file, int line);

}  // namespace trireme

#define CUDA_OR_THROW(call)                                            \
  do {                                                                 \
    const cudaError_t cuda_code = (call);                              \
    if (cuda_code != cudaSuccess) [[unlikely]] {                       \
      ::trireme::ThrowCudaError(cuda_code, #call, __FILE__, __LINE__); \
    }                                                                  \
  } while (false)
