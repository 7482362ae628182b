// Which of the AVX-512 code a processor can run: it is compiled into every program for x86-64.
#pragma once

#include "core/device/cpu/cpu_device.h"
#include "core/tensor/dtype.h"

// Between the two, code is compiled for AVX-512 whatever the rest of the program is compiled for.
#define TRIREME_AVX512_BEGIN  \
  _Pragma("GCC push_options") \
      _Pragma("GCC target(\"avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma\")")
#define TRIREME_AVX512_END _Pragma("GCC pop_options")

namespace trireme {

// Whether a device multiplies with register_tile.h: State of the device, where tests turn it off to
// run what other processors run.
struct RegisterTiles {
  RegisterTiles() {
#if defined(__x86_64__)
    f32 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    bf16 = f32 && __builtin_cpu_supports("avx512bf16");
#endif
  }
  static RegisterTiles None() {
    RegisterTiles none;
    none.f32 = none.bf16 = false;
    return none;
  }
  bool f32 = false, bf16 = false;
};

inline bool HasRegisterTiles(CpuDevice& device, DType dtype) {
  const RegisterTiles& tiles = device.State<RegisterTiles>();
  return (dtype == DType::kF32 && tiles.f32) || (dtype == DType::kBF16 && tiles.bf16);
}

}  // namespace trireme
