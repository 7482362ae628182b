// The stand-in for cuBLASLt against the definition of the product, and what it refuses.
#include <cublasLt.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/tensor/dtype.h"
#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/errors.h"

namespace trireme::emulation {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kM = 5, kN = 6, kK = 7, kBatches = 3;

double Wide(double value) { return value; }
double Wide(float value) { return value; }
double Wide(bfloat16 value) { return double{float(value)}; }

float ValueAt(int i) { return static_cast<float>(i * 37 % 19 - 9) / 4; }

template <typename T>
cudaDataType_t TypeOf() {
  if (std::is_same_v<T, double>) return CUDA_R_64F;
  return std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_16BF;
}

template <typename T>
std::vector<T> Values(int n, int start) {
  std::vector<T> values(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) values[static_cast<size_t>(i)] = static_cast<T>(ValueAt(start + i));
  return values;
}

// One product on matrices of the sizes above, in batches, with everything that can be varied.
template <typename In, typename Out, typename Scale>
struct Product {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  bool transpose_a = false, transpose_b = false;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  Scale alpha = 1, beta = 0;
  int shift = 0;            // Of the address of a, in elements.
  uint32_t alignment = 16;  // Promised.
  bool uninitialized_a = false;

  cublasStatus_t Run() {
    const int64_t a_rows = transpose_a ? kK : kM, a_columns = transpose_a ? kM : kK;
    const int64_t b_rows = transpose_b ? kN : kK, b_columns = transpose_b ? kK : kN;
    a_values = Values<In>(kBatches * kM * kK + shift, 0);
    b_values = Values<In>(kBatches * kK * kN, 5);
    d_values = Values<Out>(kBatches * kM * kN, 11);
    bias_values = Values<Out>(kM, 3);
    In* a = OnDevice(a_values);
    if (uninitialized_a) {
      EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&a), a_values.size() * sizeof(In)),
                cudaSuccess);
    }
    In* b = OnDevice(b_values);
    Out* d = OnDevice(d_values);
    Out* bias = OnDevice(bias_values);
    cublasLtHandle_t handle;
    EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulDesc_t desc;
    EXPECT_EQ(cublasLtMatmulDescCreate(&desc, compute, TypeOf<Scale>()), CUBLAS_STATUS_SUCCESS);
    const int32_t op_a = transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t op_b = transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof(op_a));
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof(op_b));
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                   sizeof(epilogue));
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
    auto layout = [](cudaDataType_t type, int64_t rows, int64_t columns) {
      cublasLtMatrixLayout_t made;
      EXPECT_EQ(cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(rows),
                                           static_cast<uint64_t>(columns), rows),
                CUBLAS_STATUS_SUCCESS);
      const int32_t count = kBatches;
      const int64_t stride = rows * columns;
      cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                       sizeof(count));
      cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                       sizeof(stride));
      return made;
    };
    const auto a_layout = layout(TypeOf<In>(), a_rows, a_columns);
    const auto b_layout = layout(TypeOf<In>(), b_rows, b_columns);
    const auto d_layout = layout(TypeOf<Out>(), kM, kN);
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulPreferenceCreate(&preference);
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &alignment, sizeof(alignment));
    }
    cublasLtMatmulHeuristicResult_t result;
    int num_results = 0;
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle, desc, a_layout, b_layout, d_layout, d_layout, preference, 1, &result, &num_results);
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = cublasLtMatmul(handle, desc, &alpha, a + shift, a_layout, b, b_layout, &beta, d,
                              d_layout, d, d_layout, &result.algo, nullptr, 0, nullptr);
    }
    if (status == CUBLAS_STATUS_SUCCESS && cudaDeviceSynchronize() == cudaSuccess) {
      results.resize(d_values.size());
      EXPECT_EQ(cudaMemcpyAsync(results.data(), d, results.size() * sizeof(Out), cudaMemcpyDefault,
                                nullptr),
                cudaSuccess);
    }
    return status;
  }

  void ExpectRight(double tolerance) {
    ASSERT_EQ(Run(), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(results.size(), d_values.size());
    for (int batch = 0; batch < kBatches; ++batch) {
      for (int j = 0; j < kN; ++j) {
        for (int i = 0; i < kM; ++i) {
          double sum = 0;
          for (int l = 0; l < kK; ++l) {
            const int at_a = batch * kM * kK + (transpose_a ? i * kK + l : l * kM + i);
            const int at_b = batch * kK * kN + (transpose_b ? l * kN + j : j * kK + l);
            sum += Wide(a_values[static_cast<size_t>(at_a)]) *
                   Wide(b_values[static_cast<size_t>(at_b)]);
          }
          const auto at = static_cast<size_t>(batch * kM * kN + j * kM + i);
          double expected = alpha * sum + beta * Wide(d_values[at]);
          if ((epilogue & CUBLASLT_EPILOGUE_BIAS) != 0) {
            expected += Wide(bias_values[static_cast<size_t>(i)]);
          }
          if ((epilogue & CUBLASLT_EPILOGUE_GELU) != 0) {
            expected *= 0.5 * (1 + std::erf(expected / std::sqrt(2)));
          }
          ASSERT_NEAR(Wide(results[at]), expected, tolerance) << batch << " " << i << " " << j;
        }
      }
    }
  }

  std::vector<In> a_values = {}, b_values = {};
  std::vector<Out> d_values = {}, bias_values = {}, results = {};
};

using F64Product = Product<double, double, double>;
using F32Product = Product<float, float, float>;
using Bf16Product = Product<bfloat16, bfloat16, float>;

TEST(CublasLtTest, Products) {
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      F64Product{.compute = CUBLAS_COMPUTE_64F,
                 .transpose_a = transpose_a,
                 .transpose_b = transpose_b,
                 .alpha = 0.5,
                 .beta = 1}
          .ExpectRight(1e-12);
      F32Product{.transpose_a = transpose_a,
                 .transpose_b = transpose_b,
                 .epilogue = CUBLASLT_EPILOGUE_BIAS,
                 .alpha = 2}
          .ExpectRight(1e-4);
    }
  }
  F32Product{.compute = CUBLAS_COMPUTE_32F_FAST_TF32, .epilogue = CUBLASLT_EPILOGUE_GELU_BIAS}
      .ExpectRight(2e-3);
  Bf16Product{.epilogue = CUBLASLT_EPILOGUE_BIAS}.ExpectRight(0.2);
  Product<bfloat16, float, float>{.beta = 1}.ExpectRight(1e-4);
  EXPECT_THAT(TakeErrors(), IsEmpty());
}

TEST(CublasLtTest, Refusals) {
  EXPECT_EQ((F64Product{.compute = CUBLAS_COMPUTE_64F, .epilogue = CUBLASLT_EPILOGUE_BIAS}.Run()),
            CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ((Product<float, bfloat16, float>{}.Run()), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ((F32Product{.compute = CUBLAS_COMPUTE_64F}.Run()), CUBLAS_STATUS_NOT_SUPPORTED);
  // An address that is less aligned than the heuristics were told.
  EXPECT_EQ((F32Product{.shift = 2}.Run()), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ((F32Product{.shift = 2, .alignment = 8}.Run()), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(TakeErrors(), IsEmpty());
}

TEST(CublasLtTest, ReadsWhatNobodyWrote) {
  F32Product product{.uninitialized_a = true};
  EXPECT_EQ(product.Run(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_THAT(TakeErrors(),
              ElementsAre(HasSubstr("cublasLtMatmul reads 140 bytes that nobody wrote")));
}

}  // namespace
}  // namespace trireme::emulation
