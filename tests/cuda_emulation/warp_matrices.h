// The tensor cores of language.cuh, for the host: part of it, included at its end.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/device/cuda/language.cuh"
#include "core/tensor/dtype.h"
#include "tests/cuda_emulation/builtins.h"

namespace trireme {

inline void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                    const emulation::Site& site = emulation::Site::current()) {
  emulation::WarpMatrixMultiply(d, a, b, site);
}

// The hardware reads rows whole.
inline void CheckRow(const void* row) {
  [[maybe_unused]] const uint4 read = *static_cast<const uint4*>(row);
}

// Row `lane / 4` of matrix i begins where lane 8 i + lane / 4 says.
inline void LoadMatrices(uint32_t (&d)[4], const void* row,
                         const emulation::Site& site = emulation::Site::current()) {
  CheckRow(row);
  const int lane = threadIdx.x % warpSize;
  for (int i = 0; i < 4; ++i) {
    const uint64_t from =
        __shfl_sync(0xFFFFFFFF, reinterpret_cast<uint64_t>(row), 8 * i + lane / 4, warpSize, site);
    d[i] = *reinterpret_cast<const uint32_t*>(from + lane % 4 * 4);
  }
}

inline void LoadMatricesTransposed(uint32_t (&d)[4], const void* row,
                                   const emulation::Site& site = emulation::Site::current()) {
  CheckRow(row);
  const int lane = threadIdx.x % warpSize;
  for (int i = 0; i < 4; ++i) {
    uint32_t pair = 0;
    for (int k = 0; k < 2; ++k) {
      const uint64_t from = __shfl_sync(0xFFFFFFFF, reinterpret_cast<uint64_t>(row),
                                        8 * i + lane % 4 * 2 + k, warpSize, site);
      pair |= uint32_t{*reinterpret_cast<const uint16_t*>(from + lane / 4 * 2)} << 16 * k;
    }
    d[i] = pair;
  }
}

inline float Exp2(float x) { return x < -126 ? 0.0f : exp2f(x); }

inline uint32_t PackBf16(float low, float high) {
  return bfloat16(low).bits | uint32_t{bfloat16(high).bits} << 16;
}

}  // namespace trireme
