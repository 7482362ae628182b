// The products that the stand-in for cuBLASLt computes: d = epilogue(alpha op(a) op(b) + beta c),
// batch after batch, over memory of an emulated device that is checked first.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <string>

#include "tests/cuda_emulation/memory.h"

namespace trireme::emulation {

struct GemmLayout {
  cudaDataType_t type = CUDA_R_32F;
  uint64_t rows = 0, columns = 0;
  int64_t ld = 0;
  cublasLtOrder_t order = CUBLASLT_ORDER_COL;
  int32_t num_batches = 1;
  int64_t batch_stride = 0;
};

struct GemmCall {
  cublasComputeType_t compute_type;
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;  // Of the type of d.
  int64_t bias_batch_stride = 0;
  void* aux = nullptr;  // Of the type of d: what went into the activation.
  int64_t aux_ld = 0;
  int64_t aux_batch_stride = 0;
  double alpha = 1, beta = 0;
  GemmLayout a_layout, b_layout, c_layout, d_layout;
  const void* a = nullptr;
  const void* b = nullptr;
  const void* c = nullptr;
  void* d = nullptr;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
};

size_t TypeBytes(cudaDataType_t type);  // 0 for those that are not emulated.

// Empty, or what is wrong with the memory that the call touches.
std::string RunGemm(DeviceMemory& memory, const GemmCall& call);

}  // namespace trireme::emulation
