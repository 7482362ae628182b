// What kernels need of the compiler, for the host compiler: the emulated device's version of the
// header of this name. Kernels are plain functions here, run by fibers.
#pragma once

#include <cuda_runtime_api.h>
#include <math.h>
#include <vector_functions.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/cuda_emulation/builtins.h"
#include "tests/cuda_emulation/device_math.h"

#define threadIdx (::trireme::emulation::AllDims(::trireme::emulation::ThreadIndex))
#define blockIdx (::trireme::emulation::AllDims(::trireme::emulation::BlockIndex))
#define blockDim (::trireme::emulation::AllDims(::trireme::emulation::BlockSize))
#define gridDim (::trireme::emulation::AllDims(::trireme::emulation::GridSize))

// Of the launch, the machine checks what it is told.
#undef __launch_bounds__
#define __launch_bounds__(...)

inline constexpr int warpSize = 32;

namespace trireme::emulation {

using Site = std::source_location;

template <typename Index>
[[gnu::always_inline]] inline uint3 AllDims(Index index) {
  return {index(0), index(1), index(2)};
}

template <typename T>
T Shuffle(WarpOperation operation, unsigned mask, T value, int argument, int width,
          const Site& site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = WarpShuffle(operation, mask, bits, argument, width, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// *address = change(*address), returning what was there. Fibers do not preempt each other, so only
// the host, which may look at pinned memory, needs the operation to be one.
template <typename T, typename Change>
[[gnu::no_sanitize_thread]] T Atomic(T* address, Change change) {
  CheckAtomic(address, sizeof(T));
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  T changed = change(old);
  while (!__atomic_compare_exchange_n(address, &old, changed, false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED)) {
    changed = change(old);
  }
  return old;
}
template <typename Word, typename T>
[[gnu::no_sanitize_thread]] T AtomicAddFloating(T* address, T value) {
  return std::bit_cast<T>(Atomic(reinterpret_cast<Word*>(address), [value](Word word) {
    return std::bit_cast<Word>(std::bit_cast<T>(word) + value);
  }));
}

// Launches are lazy: what calls the kernel later, with parameters from a copy.
template <typename... Params>
struct Signature {
  static_assert((std::is_trivially_copyable_v<Params> && ...));
  static constexpr int kNumParams = sizeof...(Params);
  struct Layout {
    uint32_t bytes[kNumParams + 1] = {};
    uint32_t offsets[kNumParams + 1] = {};
    uint32_t total = 0;
  };
  static constexpr Layout MakeLayout() {
    Layout layout;
    int i = 0;
    auto add = [&](uint32_t bytes, uint32_t alignment) {
      layout.total = (layout.total + alignment - 1) / alignment * alignment;
      layout.bytes[i] = bytes;
      layout.offsets[i++] = layout.total;
      layout.total += bytes;
    };
    (add(sizeof(Params), alignof(Params)), ...);
    return layout;
  }
  static constexpr Layout kLayout = MakeLayout();

  [[gnu::no_sanitize_thread]] static void Invoke(const void* kernel, const unsigned char* params) {
    Call(kernel, params, std::index_sequence_for<Params...>());
  }
  template <size_t... kIndices>
  [[gnu::no_sanitize_thread]] static void Call(const void* kernel,
                                               [[maybe_unused]] const unsigned char* params,
                                               std::index_sequence<kIndices...>) {
    reinterpret_cast<void (*)(Params...)>(const_cast<void*>(kernel))(
        *reinterpret_cast<const std::remove_cv_t<Params>*>(params + kLayout.offsets[kIndices])...);
  }
  static constexpr KernelSignature kSignature = {kNumParams, kLayout.bytes, kLayout.offsets,
                                                 kLayout.total, &Invoke};
};

}  // namespace trireme::emulation

// The built-ins of the CUDA C++ programming guide, by its names.

inline void __syncthreads(
    const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  trireme::emulation::BlockBarrier(false, nullptr, site);
}
inline int __syncthreads_or(
    int predicate, const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  return trireme::emulation::BlockBarrier(predicate != 0, nullptr, site);
}
inline int __syncthreads_count(
    int predicate, const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  int count = 0;
  trireme::emulation::BlockBarrier(predicate != 0, &count, site);
  return count;
}
inline void __syncwarp(
    unsigned mask = 0xFFFFFFFF,
    const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  trireme::emulation::WarpBarrier(mask, site);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = warpSize,
              const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  return trireme::emulation::Shuffle(trireme::emulation::WarpOperation::kShuffle, mask, value, lane,
                                     width, site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  return trireme::emulation::Shuffle(trireme::emulation::WarpOperation::kShuffleUp, mask, value,
                                     static_cast<int>(delta), width, site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  return trireme::emulation::Shuffle(trireme::emulation::WarpOperation::kShuffleDown, mask, value,
                                     static_cast<int>(delta), width, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  return trireme::emulation::Shuffle(trireme::emulation::WarpOperation::kShuffleXor, mask, value,
                                     lane_mask, width, site);
}
inline unsigned __ballot_sync(
    unsigned mask, int predicate,
    const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  return trireme::emulation::WarpBallot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate,
                      const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  return trireme::emulation::WarpBallot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  return trireme::emulation::WarpBallot(mask, predicate == 0, site) == 0;
}

inline int atomicAdd(int* address, int value) {
  return trireme::emulation::Atomic(address, [value](int old) { return old + value; });
}
inline unsigned atomicAdd(unsigned* address, unsigned value) {
  return trireme::emulation::Atomic(address, [value](unsigned old) { return old + value; });
}
inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
  return trireme::emulation::Atomic(address, [value](unsigned long long old) { return old + value; });
}
inline float atomicAdd(float* address, float value) {
  return trireme::emulation::AtomicAddFloating<uint32_t>(address, value);
}
inline double atomicAdd(double* address, double value) {
  return trireme::emulation::AtomicAddFloating<uint64_t>(address, value);
}
template <typename T>
  requires std::is_integral_v<T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return trireme::emulation::Atomic(address, [value](T old) { return old > value ? old : value; });
}
template <typename T>
  requires std::is_integral_v<T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return trireme::emulation::Atomic(address, [value](T old) { return old < value ? old : value; });
}
template <typename T>
  requires std::is_integral_v<T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return trireme::emulation::Atomic(address, [value](T old) { return old | value; });
}
template <typename T>
  requires std::is_integral_v<T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return trireme::emulation::Atomic(address, [value](T) { return value; });
}
template <typename T>
  requires std::is_integral_v<T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> desired) {
  return trireme::emulation::Atomic(
      address, [expected, desired](T old) { return old == expected ? desired : old; });
}

[[noreturn]] inline void __trap(
    const trireme::emulation::Site& site = trireme::emulation::Site::current()) {
  trireme::emulation::Trap(site);
}

namespace trireme {

[[gnu::always_inline]] inline void* SharedBytes() { return emulation::SharedMemory(); }

template <typename... Params>
const void* KernelAddress(void (*kernel)(Params...)) {
  const void* address = reinterpret_cast<const void*>(kernel);
  emulation::RegisterKernel(address, &emulation::Signature<Params...>::kSignature);
  return address;
}

}  // namespace trireme

#include "tests/cuda_emulation/warp_matrices.h"
