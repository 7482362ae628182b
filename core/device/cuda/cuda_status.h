// CUDA's return codes as Status.
#pragma once

#include <cuda_runtime_api.h>

#include "core/base/status.h"

namespace trireme {

// RESOURCE_EXHAUSTED when the device is out of memory; UNAVAILABLE without a driver, with one that
// is too old or a device that is lost, with what to do; else INTERNAL. All but the second kind name
// file, line and call.
Status CudaStatus(cudaError_t code, const char* call, const char* file, int line);

}  // namespace trireme

// Of a call whose code was looked at before.
#define CUDA_STATUS_OF(code, call) ::trireme::CudaStatus(code, call, __FILE__, __LINE__)

#define CUDA_OR_RETURN(call)                                              \
  do {                                                                    \
    const cudaError_t cuda_code = (call);                                 \
    if (cuda_code != cudaSuccess) [[unlikely]] {                          \
      return ::trireme::CudaStatus(cuda_code, #call, __FILE__, __LINE__); \
    }                                                                     \
  } while (false)

// In destructors: a device that failed before refuses everything, and says so elsewhere.
#define CUDA_OR_LOG(call)                                                                  \
  do {                                                                                     \
    const cudaError_t cuda_code = (call);                                                  \
    if (cuda_code != cudaSuccess) [[unlikely]] {                                           \
      LOG(ERROR) << ::trireme::CudaStatus(cuda_code, #call, __FILE__, __LINE__).message(); \
    }                                                                                      \
  } while (false)
