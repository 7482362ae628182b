// From a run-time DType to a C++ type. No Abseil here: kernels include it.
#pragma once

#include "core/tensor/dtype.h"

namespace trireme {

template <typename T>
struct TypeTag {
  using type = T;
};

// Ends the program: checks above the kernels let only types through that they are built for.
[[noreturn]] void NoKernelFor(DType dtype, const char* op);

// Calls fn(TypeTag<T>) for the compute types f64, f32, bf16: the only ones kernels are built for.
template <typename Fn>
void DispatchFloating(DType dtype, const char* op, Fn&& fn) {
  switch (dtype) {
    case DType::kF64:
      return fn(TypeTag<double>());
    case DType::kF32:
      return fn(TypeTag<float>());
    case DType::kBF16:
      return fn(TypeTag<bfloat16>());
    default:
      NoKernelFor(dtype, op);
  }
}

// Calls fn(TypeTag<T>) with an unsigned T of the element's size: for kernels that only move
// elements.
template <typename Fn>
void DispatchSize(DType dtype, Fn&& fn) {
  switch (DTypeSize(dtype)) {
    case 8:
      return fn(TypeTag<uint64_t>());
    case 4:
      return fn(TypeTag<uint32_t>());
    case 2:
      return fn(TypeTag<uint16_t>());
    default:
      return fn(TypeTag<uint8_t>());
  }
}

// Calls fn(TypeTag<T>) for every element type.
template <typename Fn>
void DispatchAll(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::kF64:
      return fn(TypeTag<double>());
    case DType::kF32:
      return fn(TypeTag<float>());
    case DType::kBF16:
      return fn(TypeTag<bfloat16>());
    case DType::kF16:
      return fn(TypeTag<float16>());
    case DType::kI64:
      return fn(TypeTag<int64_t>());
    case DType::kI32:
      return fn(TypeTag<int32_t>());
    case DType::kU8:
      return fn(TypeTag<uint8_t>());
  }
}

}  // namespace trireme
