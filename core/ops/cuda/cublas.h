// Return codes of cuBLAS, none of which is ignored, and owners of its handles.
#pragma once

#include <cublasLt.h>

#include <memory>

#include "core/base/log.h"

namespace trireme {

// Throws Failure with file, line, call and what cuBLAS says of the code; RESOURCE_EXHAUSTED when it
// has no memory.
[[noreturn]] void ThrowCublasError(cublasStatus_t code, const char* call, const char* file,
                                   int line);

#define CUBLAS_OR_THROW(call)                                              \
  do {                                                                     \
    const cublasStatus_t cublas_code = (call);                             \
    if (cublas_code != CUBLAS_STATUS_SUCCESS) [[unlikely]] {               \
      ::trireme::ThrowCublasError(cublas_code, #call, __FILE__, __LINE__); \
    }                                                                      \
  } while (false)

// What goes wrong while something is given back has gone wrong before.
template <auto destroy>
struct CublasDeleter {
  template <typename T>
  void operator()(T* object) const {
    const cublasStatus_t code = destroy(object);
    if (code != CUBLAS_STATUS_SUCCESS) LOG(ERROR) << "[gemm] " << cublasLtGetStatusString(code);
  }
};
template <typename Handle, auto destroy>
using CublasOwner = std::unique_ptr<std::remove_pointer_t<Handle>, CublasDeleter<destroy>>;

using CublasHandle = CublasOwner<cublasLtHandle_t, cublasLtDestroy>;
using MatmulDesc = CublasOwner<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using MatrixLayout = CublasOwner<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using MatmulPreference = CublasOwner<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

}  // namespace trireme
