// cuBLASLt: what is asked of it is checked by the rules of its documentation ("cublasLtMatmul()",
// tables of supported types and alignments); what these rules do not allow is refused.
#include <cublasLt.h>

#include <cstring>
#include <memory>

#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/fault_injection.h"
#include "tests/cuda_emulation/gemm.h"
#include "tests/cuda_emulation/runtime.h"

struct cublasLtContext {
  int device;
};

namespace trireme::emulation {
namespace {

struct Descriptor {
  GemmCall call;
  cudaDataType_t scale_type;
};

struct Preference {
  uint64_t workspace_bytes = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // Of a, b, c, d: what is promised by default.
};

// What an algorithm was chosen for.
struct Algorithm {
  uint64_t problem;
  uint32_t alignment[4];
  uint64_t workspace_bytes;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

Descriptor& From(cublasLtMatmulDesc_t handle) { return *reinterpret_cast<Descriptor*>(handle); }
GemmLayout& From(cublasLtMatrixLayout_t handle) { return *reinterpret_cast<GemmLayout*>(handle); }
Preference& From(cublasLtMatmulPreference_t handle) {
  return *reinterpret_cast<Preference*>(handle);
}

// Attributes are given as bytes, whose number has to be right.
template <typename T>
cublasStatus_t Assign(T& field, const void* bytes, size_t num_bytes) {
  if (bytes == nullptr || num_bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  memcpy(&field, bytes, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}
template <typename Wide, typename T>
cublasStatus_t AssignAs(T& field, const void* bytes, size_t num_bytes) {
  Wide wide;
  const cublasStatus_t status = Assign(wide, bytes, num_bytes);
  if (status == CUBLAS_STATUS_SUCCESS) field = static_cast<T>(wide);
  return status;
}

bool TypesAreSupported(cublasComputeType_t compute, cudaDataType_t scale, cudaDataType_t a,
                       cudaDataType_t b, cudaDataType_t c, cudaDataType_t d) {
  if (a != b || c != d) return false;
  switch (compute) {
    case CUBLAS_COMPUTE_64F:
      return scale == CUDA_R_64F && a == CUDA_R_64F && c == CUDA_R_64F;
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
      return scale == CUDA_R_32F && ((a == CUDA_R_32F && c == CUDA_R_32F) ||
                                     (a == CUDA_R_16BF && (c == CUDA_R_16BF || c == CUDA_R_32F)));
    case CUBLAS_COMPUTE_32F_FAST_TF32:
      return scale == CUDA_R_32F && a == CUDA_R_32F && c == CUDA_R_32F;
    default:
      return false;
  }
}

bool LayoutIsValid(const GemmLayout& layout) {
  const auto ld = static_cast<uint64_t>(layout.ld);
  return layout.rows > 0 && layout.columns > 0 && layout.num_batches > 0 && layout.ld > 0 &&
         ld >= (layout.order == CUBLASLT_ORDER_COL ? layout.rows : layout.columns);
}

bool EpilogueIsSupported(const GemmCall& call) {
  switch (call.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
      return true;
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
      break;
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
      if (call.aux_ld % 8 != 0 || call.aux_batch_stride % 8 != 0 ||
          static_cast<uint64_t>(call.aux_ld) < call.d_layout.rows) {
        return false;
      }
      break;
    default:
      return false;
  }
  // Epilogues work along columns, and not in f64.
  return call.compute_type != CUBLAS_COMPUTE_64F && call.d_layout.order == CUBLASLT_ORDER_COL;
}

cublasStatus_t CheckProblem(const Descriptor& descriptor, const GemmCall& call) {
  for (const GemmLayout* layout :
       {&call.a_layout, &call.b_layout, &call.c_layout, &call.d_layout}) {
    if (!LayoutIsValid(*layout)) return CUBLAS_STATUS_INVALID_VALUE;
    if (layout->num_batches != call.d_layout.num_batches) return CUBLAS_STATUS_INVALID_VALUE;
    if (TypeBytes(layout->type) == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (layout->order != CUBLASLT_ORDER_COL && layout->order != CUBLASLT_ORDER_ROW) {
      return CUBLAS_STATUS_NOT_SUPPORTED;
    }
  }
  const bool transpose_a = call.transpose_a != CUBLAS_OP_N;
  const bool transpose_b = call.transpose_b != CUBLAS_OP_N;
  const GemmLayout& a = call.a_layout;
  const GemmLayout& b = call.b_layout;
  const GemmLayout& c = call.c_layout;
  const GemmLayout& d = call.d_layout;
  if ((transpose_a ? a.columns : a.rows) != d.rows ||
      (transpose_b ? b.rows : b.columns) != d.columns ||
      (transpose_a ? a.rows : a.columns) != (transpose_b ? b.columns : b.rows) ||
      c.rows != d.rows || c.columns != d.columns || c.order != d.order) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (d.num_batches > 1 && d.batch_stride == 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (!TypesAreSupported(call.compute_type, descriptor.scale_type, a.type, b.type, c.type,
                         d.type) ||
      !EpilogueIsSupported(call)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  return CUBLAS_STATUS_SUCCESS;
}

// All that an algorithm depends on.
uint64_t HashProblem(const GemmCall& call) {
  uint64_t hash = 0;
  auto add = [&hash](uint64_t value) { hash = (hash ^ value) * 0x9E3779B97F4A7C15 ^ (hash >> 29); };
  add(call.compute_type);
  add(call.transpose_a);
  add(call.transpose_b);
  add(call.epilogue);
  for (const GemmLayout* layout :
       {&call.a_layout, &call.b_layout, &call.c_layout, &call.d_layout}) {
    add(layout->type);
    add(layout->rows);
    add(layout->columns);
    add(static_cast<uint64_t>(layout->ld));
    add(layout->order);
    add(static_cast<uint64_t>(layout->num_batches));
    add(static_cast<uint64_t>(layout->batch_stride));
  }
  return hash;
}

GemmCall MakeCall(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                  cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
  GemmCall call = From(desc).call;
  call.a_layout = From(a);
  call.b_layout = From(b);
  call.c_layout = From(c);
  call.d_layout = From(d);
  return call;
}

bool Aligned(const void* pointer, size_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

double Scalar(const void* value, cudaDataType_t type) {
  if (type == CUDA_R_64F) return *static_cast<const double*>(value);
  return double{*static_cast<const float*>(value)};
}

}  // namespace
}  // namespace trireme::emulation

namespace emulation = trireme::emulation;
using emulation::From;

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  *handle = new cublasLtContext{emulation::Machine::Get().current_index()};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    default:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}
const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc,
                                        cublasComputeType_t compute_type,
                                        cudaDataType_t scale_type) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  auto* created = new emulation::Descriptor{{}, scale_type};
  created->call.compute_type = compute_type;
  *desc = reinterpret_cast<cublasLtMatmulDesc_t>(created);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  delete &From(desc);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* bytes, size_t num_bytes) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  emulation::GemmCall& call = From(desc).call;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return emulation::AssignAs<int32_t>(call.transpose_a, bytes, num_bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return emulation::AssignAs<int32_t>(call.transpose_b, bytes, num_bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return emulation::AssignAs<uint32_t>(call.epilogue, bytes, num_bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return emulation::Assign(call.bias, bytes, num_bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return emulation::Assign(call.bias_batch_stride, bytes, num_bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return emulation::Assign(call.aux, bytes, num_bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return emulation::Assign(call.aux_ld, bytes, num_bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE:
      return emulation::Assign(call.aux_batch_stride, bytes, num_bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(
      new emulation::GemmLayout{type, rows, columns, ld, CUBLASLT_ORDER_COL, 1, 0});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  delete &From(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* bytes, size_t num_bytes) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  emulation::GemmLayout& layout = From(handle);
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return emulation::AssignAs<int32_t>(layout.order, bytes, num_bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return emulation::Assign(layout.ld, bytes, num_bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return emulation::Assign(layout.num_batches, bytes, num_bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return emulation::Assign(layout.batch_stride, bytes, num_bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new emulation::Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  delete &From(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* bytes, size_t num_bytes) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  emulation::Preference& preference = From(handle);
  uint32_t ignored;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return emulation::Assign(preference.workspace_bytes, bytes, num_bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return emulation::Assign(preference.alignment[0], bytes, num_bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return emulation::Assign(preference.alignment[1], bytes, num_bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return emulation::Assign(preference.alignment[2], bytes, num_bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return emulation::Assign(preference.alignment[3], bytes, num_bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return emulation::Assign(ignored, bytes, num_bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t handle, int num_wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* num_results) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  *num_results = 0;
  if (num_wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
  const emulation::GemmCall call = emulation::MakeCall(desc, a, b, c, d);
  const cublasStatus_t status = emulation::CheckProblem(From(desc), call);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const emulation::Preference& preference = From(handle);
  emulation::Algorithm algorithm = {emulation::HashProblem(call), {}, 0};
  memcpy(algorithm.alignment, preference.alignment, sizeof(preference.alignment));
  constexpr uint64_t kWorkspaceBytes = 64 << 10;
  if (preference.workspace_bytes >= kWorkspaceBytes) algorithm.workspace_bytes = kWorkspaceBytes;
  results[0] = {};
  memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
  results[0].workspaceSize = algorithm.workspace_bytes;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].wavesCount = 1;
  *num_results = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream_handle) {
  FAIL_IF_ASKED(CUBLAS_STATUS_INTERNAL_ERROR);
  emulation::GemmCall call = emulation::MakeCall(desc, a_layout, b_layout, c_layout, d_layout);
  const cublasStatus_t status = emulation::CheckProblem(From(desc), call);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const cudaDataType_t scale_type = From(desc).scale_type;
  call.alpha = emulation::Scalar(alpha, scale_type);
  call.beta = emulation::Scalar(beta, scale_type);
  call.a = a;
  call.b = b;
  call.c = c;
  call.d = d;

  emulation::Machine& machine = emulation::Machine::Get();
  CUstream_st& stream = machine.Stream(stream_handle);
  emulation::EmulatedDevice& device = *stream.device;
  if (handle->device != device.index) return CUBLAS_STATUS_INVALID_VALUE;
  if (c == d && memcmp(&call.c_layout.ld, &call.d_layout.ld, sizeof(call.d_layout.ld)) != 0) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool has_bias = (call.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
  const bool has_aux = (call.epilogue & 128) != 0;
  if (!has_bias) call.bias = nullptr;
  if (!has_aux) call.aux = nullptr;
  if ((has_bias && call.bias == nullptr) || (has_aux && call.aux == nullptr)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const size_t element = emulation::TypeBytes(call.d_layout.type);
  if (!emulation::Aligned(call.bias, element) || !emulation::Aligned(call.aux, 16)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  // Without an algorithm the library chooses by the pointers that it is given.
  if (algo != nullptr) {
    emulation::Algorithm algorithm;
    memcpy(&algorithm, algo, sizeof(algorithm));
    if (algorithm.problem != emulation::HashProblem(call)) return CUBLAS_STATUS_INVALID_VALUE;
    const void* pointers[] = {a, b, call.beta == 0 ? nullptr : c, d};
    for (int i = 0; i < 4; ++i) {
      if (!emulation::Aligned(pointers[i], algorithm.alignment[i])) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
      }
    }
    if (workspace_bytes < algorithm.workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    call.workspace_bytes = algorithm.workspace_bytes;
  }
  if (call.workspace_bytes > 0 && (workspace == nullptr || !emulation::Aligned(workspace, 16))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  call.workspace = workspace;
  const cudaError_t code =
      machine.Enqueue(stream, {"cublasLtMatmul", [&device, call] {
                                 return emulation::Verdict("cublasLtMatmul",
                                                           emulation::RunGemm(device.memory, call));
                               }});
  return code == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
