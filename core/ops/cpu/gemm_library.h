// The libraries behind every product on the CPU: oneDNN for f32 and bf16, OpenBLAS for f64. Nothing
// else in the tree knows which; tests/bench/kernels_bench.cc is where the choice comes from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/device/device.h"
#include "core/tensor/dtype.h"

namespace trireme {

// Row-major with rows `ld` elements apart, or the transpose of such a matrix.
struct MatrixRef {
  const void* data = nullptr;
  int64_t ld = 0;
  bool transposed = false;
};

// c[m, n] = alpha * a[m, k] * b[k, n] + beta * c, c row-major. beta is 0 (c is not read) or 1. None
// of m, n, k is 0. Types (in, out): (f64, f64), (f32, f32), (bf16, bf16), (bf16, f32).
struct Product {
  DType in, out;
  int64_t m, n, k;
  MatrixRef a, b;
  void* c;
  int64_t ldc;
  double alpha = 1, beta = 0;
};

// One a device: it keeps compiled primitives.
class GemmLibrary {
 public:
  // Without primitives, bf16 products are converted and done in f32: what processors that oneDNN
  // has no bf16 kernels for get.
  explicit GemmLibrary(bool bf16_primitives = HasBf16Primitives());
  ~GemmLibrary();
  GemmLibrary(const GemmLibrary&) = delete;
  GemmLibrary& operator=(const GemmLibrary&) = delete;

  // Runs on the calling thread alone and disturbs no OpenMP setting of the process. Scratch memory
  // comes from `device`. Thread-safe. The bits of the result depend on the product's shape and
  // types only.
  void Run(const Product& product, Device& device);

  static bool HasBf16Primitives();
  // Does the processor multiply bf16 matrices in hardware (AMX)?
  static bool HasMatrixUnits();
  // "f32, bf16: oneDNN 2.6.3 (avx512_core_bf16); f64: OpenBLAS (SkylakeX)".
  static std::string Describe();

 private:
  class PrimitiveCache;

  void RunBf16(const Product& product, Device& device);
  void RunConverted(const Product& product, Device& device);

  const bool bf16_primitives_;
  const std::unique_ptr<PrimitiveCache> cache_;
};

}  // namespace trireme
