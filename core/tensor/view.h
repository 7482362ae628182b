// View: what a kernel sees of a tensor. A POD, so that device code needs neither Tensor nor Abseil;
// constexpr, so that the CUDA compiler takes its functions too.
#pragma once

#include <cstdint>

#include "core/tensor/dtype.h"

namespace trireme {

struct View {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  int64_t sizes[6] = {};
  int64_t strides[6] = {};  // In elements; 0 along a broadcast dimension, which is read-only.

  template <typename T>
  constexpr T* as() const {
    return static_cast<T*>(data);
  }
  constexpr int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= sizes[i];
    return n;
  }
  constexpr bool defined() const { return data != nullptr; }
  // Dense row-major.
  constexpr bool contiguous() const {
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; --i) {
      if (sizes[i] != 1 && strides[i] != stride) return false;
      stride *= sizes[i];
    }
    return true;
  }
};

}  // namespace trireme
