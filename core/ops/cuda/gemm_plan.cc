#include "core/ops/cuda/gemm_plan.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "core/base/status.h"
#include "core/device/cuda/services.h"

namespace trireme {
namespace {

constexpr uint64_t kMaxWorkspaceBytes = uint64_t{32} << 20;  // What NVIDIA advises for Hopper.
constexpr size_t kMaxPlans = 4096;  // Ragged batches make new shapes for ever.

cudaDataType_t CublasType(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return CUDA_R_64F;
    case DType::kF32:
      return CUDA_R_32F;
    default:
      return CUDA_R_16BF;
  }
}

cublasComputeType_t ComputeType(const GemmProblem& problem) {
  if (problem.in == DType::kF64) return CUBLAS_COMPUTE_64F;
  const bool tf32 = problem.in == DType::kF32 && problem.allow_tf32;
  return tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

template <typename T>
void Set(const MatmulDesc& desc, cublasLtMatmulDescAttributes_t name, const T& value) {
  CUBLAS_OR_THROW(cublasLtMatmulDescSetAttribute(desc.get(), name, &value, sizeof(value)));
}

template <typename T>
void Set(const MatmulPreference& preference, cublasLtMatmulPreferenceAttributes_t name,
         const T& value) {
  CUBLAS_OR_THROW(
      cublasLtMatmulPreferenceSetAttribute(preference.get(), name, &value, sizeof(value)));
}

MatrixLayout MakeLayout(const GemmMatrix& matrix, DType dtype, int64_t num_batches) {
  cublasLtMatrixLayout_t created;
  CUBLAS_OR_THROW(cublasLtMatrixLayoutCreate(&created, CublasType(dtype), matrix.rows,
                                             matrix.columns, matrix.ld));
  MatrixLayout layout(created);
  const int32_t count = static_cast<int32_t>(num_batches);
  CUBLAS_OR_THROW(cublasLtMatrixLayoutSetAttribute(created, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                   &count, sizeof(count)));
  CUBLAS_OR_THROW(
      cublasLtMatrixLayoutSetAttribute(created, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                       &matrix.batch_stride, sizeof(matrix.batch_stride)));
  return layout;
}

std::string Describe(const GemmProblem& p) {
  return absl::StrCat(p.num_batches, " x ", DTypeName(p.in), " ", p.d.columns, " x ", p.d.rows,
                      " x ", p.a.transposed ? p.a.rows : p.a.columns, " -> ", DTypeName(p.out));
}

}  // namespace

void ThrowCublasError(cublasStatus_t code, const char* call, const char* file, int line) {
  const std::string text =
      absl::StrCat(file, ":", line, ": ", call, ": ", cublasLtGetStatusString(code));
  throw Failure(code == CUBLAS_STATUS_ALLOC_FAILED ? absl::ResourceExhaustedError(text)
                                                   : absl::InternalError(text));
}

GemmPlans::GemmPlans() {
  cublasLtHandle_t handle;
  CUBLAS_OR_THROW(cublasLtCreate(&handle));
  handle_.reset(handle);
}

GemmPlans::Plan GemmPlans::MakePlan(const GemmProblem& problem) const {
  Plan plan;
  cublasLtMatmulDesc_t desc;
  const DType scale = AccumulationType(problem.in);
  CUBLAS_OR_THROW(cublasLtMatmulDescCreate(&desc, ComputeType(problem), CublasType(scale)));
  plan.desc.reset(desc);
  const auto operation = [](const GemmMatrix& m) {
    return m.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  };
  Set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, operation(problem.a));
  Set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSB, operation(problem.b));
  if (problem.has_bias) Set(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  plan.a = MakeLayout(problem.a, problem.in, problem.num_batches);
  plan.b = MakeLayout(problem.b, problem.in, problem.num_batches);
  plan.d = MakeLayout(problem.d, problem.out, problem.num_batches);

  cublasLtMatmulPreference_t created;
  CUBLAS_OR_THROW(cublasLtMatmulPreferenceCreate(&created));
  const MatmulPreference preference(created);
  Set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMaxWorkspaceBytes);
  // Sums that are split over blocks are joined in the accumulation type, in order.
  Set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  const auto alignment = [](const GemmMatrix& m) { return static_cast<uint32_t>(m.alignment); };
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(problem.a));
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(problem.b));
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(problem.d));
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(problem.d));

  cublasLtMatmulHeuristicResult_t result;
  int num_results = 0;
  CUBLAS_OR_THROW(cublasLtMatmulAlgoGetHeuristic(handle_.get(), desc, plan.a.get(), plan.b.get(),
                                                 plan.d.get(), plan.d.get(), preference.get(), 1,
                                                 &result, &num_results));
  if (num_results == 0) {
    throw Failure(absl::InternalError(
        absl::StrCat("cuBLASLt has no algorithm for ", Describe(problem), " [gemm]")));
  }
  CUBLAS_OR_THROW(result.state);
  plan.algorithm = result.algo;
  plan.workspace_bytes = static_cast<int64_t>(result.workspaceSize);
  return plan;
}

void GemmPlans::Run(Device& device, const GemmProblem& problem, const void* a, const void* b,
                    void* d, double alpha, double beta, const void* bias) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto it = plans_.find(problem);
  if (it == plans_.end()) {
    if (plans_.size() == kMaxPlans) plans_.clear();
    it = plans_.emplace(problem, MakePlan(problem)).first;
  }
  const Plan& plan = it->second;
  if (problem.has_bias) Set(plan.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  const float alpha_f32 = static_cast<float>(alpha), beta_f32 = static_cast<float>(beta);
  const bool f64 = problem.in == DType::kF64;
  const void* alpha_data = f64 ? static_cast<const void*>(&alpha) : &alpha_f32;
  const void* beta_data = f64 ? static_cast<const void*>(&beta) : &beta_f32;
  const Workspace workspace(device, plan.workspace_bytes, "gemm");
  CUBLAS_OR_THROW(cublasLtMatmul(handle_.get(), plan.desc.get(), alpha_data, a, plan.a.get(), b,
                                 plan.b.get(), beta_data, d, plan.d.get(), d, plan.d.get(),
                                 &plan.algorithm, workspace.as<void>(),
                                 static_cast<size_t>(plan.workspace_bytes), ComputeStream(device)));
}

}  // namespace trireme
