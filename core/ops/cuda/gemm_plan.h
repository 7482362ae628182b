// Products as cuBLASLt runs them: what it has to know of one, and the algorithm that its heuristics
// choose, asked once a shape and device.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "core/device/device.h"
#include "core/ops/cuda/cublas.h"
#include "core/tensor/dtype.h"

namespace trireme {

// A matrix in column-major order, or a batch of them.
struct GemmMatrix {
  int64_t rows, columns, ld;  // As it lies in memory.
  int64_t batch_stride = 0;   // In elements; 0: the same for all.
  bool transposed = false;    // Its transpose is what is multiplied.
  int64_t alignment = 0;      // Of all its columns, in bytes.

  auto operator<=>(const GemmMatrix&) const = default;
};

// d = alpha a b + beta d (+ bias over the rows of d).
struct GemmProblem {
  DType in, out;
  int64_t num_batches = 1;
  GemmMatrix a, b, d;
  bool has_bias = false;  // Of the type of d.
  bool allow_tf32 = false;

  auto operator<=>(const GemmProblem&) const = default;
};

// What a device keeps for its products.
class GemmPlans {
 public:
  GemmPlans();
  // Queues the product. bias is ignored unless the problem has one.
  void Run(Device& device, const GemmProblem& problem, const void* a, const void* b, void* d,
           double alpha, double beta, const void* bias);

 private:
  struct Plan {
    MatmulDesc desc;
    MatrixLayout a, b, d;
    cublasLtMatmulAlgo_t algorithm;
    int64_t workspace_bytes;
  };
  Plan MakePlan(const GemmProblem& problem) const;

  CublasHandle handle_;
  std::mutex mutex_;  // Plans are changed by a run: the bias.
  std::map<GemmProblem, Plan> plans_;
};

}  // namespace trireme
