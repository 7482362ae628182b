// What kernels need of the compiler beyond CUDA's own words. The one header that the emulated device
// replaces by its own.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace trireme {

// The block's dynamic shared memory, aligned to 16 bytes; its size is the launch's. Kernels have no
// other shared memory: they declare a struct of what they share, or compute offsets.
__device__ __forceinline__ void* SharedBytes() {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  return shared_bytes;
}

// What names a kernel to cudaLaunchKernel.
template <typename... Params>
const void* KernelAddress(void (*kernel)(Params...)) {
  return reinterpret_cast<const void*>(kernel);
}

// d += a b over a warp: 16 x 16 times 16 x 8 in bf16, sums in f32. Lane l holds of row-major a the
// pairs (r, c), (r + 8, c), (r, c + 8), (r + 8, c + 8), of column-major b the pairs (c, n), (c + 8,
// n), of d the pairs (r, c), (r + 8, c), where r = n = l / 4, c = 2 (l % 4) and a pair goes on along
// the row of a and d, the column of b. (PTX ISA: mma.m16n8k16.)
__device__ __forceinline__ void MmaBf16(float (&d)[4], const uint32_t (&a)[4],
                                        const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16-bit elements from shared memory. Lanes 8 i to 8 i + 7 name the rows of
// matrix i, 16 aligned bytes each; d[i] of lane l gets of matrix i the elements (l / 4, 2 (l % 4))
// and the one to its right, which are what MmaBf16 wants of a, and of b where its columns are rows
// in memory. (PTX ISA: ldmatrix.)
__device__ __forceinline__ void LoadMatrices(uint32_t (&d)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(address)
               : "memory");
}

// The same, each matrix transposed: the elements (2 (l % 4), l / 4) and the one below, which are what
// MmaBf16 wants of b where its rows are rows in memory.
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t (&d)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(address)
               : "memory");
}

// 2^x to two units of the last place; zero where that would be below 2^-126.
__device__ __forceinline__ float Exp2(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

// Two numbers rounded to bf16, the first one in the lower half.
__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

}  // namespace trireme
