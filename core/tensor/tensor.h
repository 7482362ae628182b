// Tensor: a typed, strided view of a Storage, with its place in the autograd graph. A value: copies
// share the data.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/device/device.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"
#include "core/tensor/storage.h"
#include "core/tensor/view.h"

namespace trireme {

class Node;
struct TensorImpl;

class Tensor {
 public:
  Tensor() = default;  // Undefined.

  // Memory is not initialized by Empty. All throw Failure when memory runs out.
  static Tensor Empty(Device& device, const Shape& shape, DType dtype,
                      MemoryKind kind = MemoryKind::kActivations,
                      absl::string_view label = "tensor");
  static Tensor Full(Device& device, const Shape& shape, DType dtype, double value,
                     MemoryKind kind = MemoryKind::kActivations,
                     absl::string_view label = "tensor");
  static Tensor Zeros(Device& device, const Shape& shape, DType dtype,
                      MemoryKind kind = MemoryKind::kActivations,
                      absl::string_view label = "tensor") {
    return Full(device, shape, dtype, 0, kind, label);
  }
  // Copies host values; their type gives the dtype.
  template <typename T>
  static Tensor FromHost(Device& device, const Shape& shape, absl::Span<const T> values) {
    return FromBytes(device, shape, DTypeOf<T>::value, values.data(), values.size());
  }
  // The same in another dtype, rounded once: FromVector(device, {2}, {0.1, 0.2}, DType::kBF16).
  static Tensor FromVector(Device& device, const Shape& shape, const std::vector<double>& values,
                           DType dtype);

  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const;
  const Shape& strides() const;  // In elements.
  int rank() const { return shape().rank(); }
  int64_t dim(int i) const { return shape()[i]; }
  int64_t numel() const { return shape().numel(); }
  DType dtype() const;
  Device& device() const;
  bool is_contiguous() const;

  View view() const;  // CHECKs residency.
  template <typename T>
  T* data() const {
    return static_cast<T*>(RawData(DTypeOf<T>::value));
  }
  // The elements in row-major order, as doubles, on the host. Synchronizes the device.
  std::vector<double> ToVector() const;
  // The same as they are.
  template <typename T>
  std::vector<T> ToHost() const {
    std::vector<T> values(numel());
    CopyToHost(values.data(), DTypeOf<T>::value);
    return values;
  }
  double Item() const;  // Of one element.

  // Views and copies outside the graph; their gradients are in ops.h (Slice, Reshape, Transpose,
  // To).
  Tensor AsStrided(const Shape& shape, const Shape& strides, int64_t offset) const;
  Tensor View1D(int64_t begin, int64_t size) const;  // Of a contiguous tensor.
  Tensor WithShape(const Shape& shape) const;        // Of a contiguous tensor.
  Tensor Contiguous() const;                         // Itself, or a dense copy.
  Tensor CopyTo(DType dtype, MemoryKind kind = MemoryKind::kActivations,
                absl::string_view label = "copy") const;
  void CopyFrom(const Tensor& src) const;  // Same shape; converts.
  void Fill(double value) const;
  void Accumulate(const Tensor& src, double alpha = 1) const;  // *this += alpha * src

  const std::shared_ptr<Storage>& storage() const;
  void* raw() const;  // The first element.

  // Autograd. A leaf is a tensor made with set_requires_grad; gradients end there.
  bool requires_grad() const;
  bool is_leaf() const;
  Tensor& set_requires_grad(bool value = true);
  // The same data outside the graph.
  Tensor Detach() const;
  // The plain form for one rank: adds d(this)/d(leaf) to grad() of every leaf below. `this` has one
  // element. The graph is consumed.
  void Backward() const;
  // In the accumulation type; undefined before the first Backward.
  Tensor grad() const;
  void ClearGrad() const;

  const std::shared_ptr<TensorImpl>& impl() const { return impl_; }
  explicit Tensor(std::shared_ptr<TensorImpl> impl) : impl_(std::move(impl)) {}

 private:
  static Tensor FromBytes(Device& device, const Shape& shape, DType dtype, const void* values,
                          size_t count);
  void* RawData(DType expected) const;
  void CopyToHost(void* values, DType expected) const;

  std::shared_ptr<TensorImpl> impl_;
};

struct TensorImpl {
  std::shared_ptr<Storage> storage;
  int64_t offset = 0;  // In elements.
  Shape shape, strides;
  DType dtype = DType::kF32;

  bool requires_grad = false;
  std::shared_ptr<Node> node;  // The op that made it; nullptr for a leaf.
  int output = 0;              // Which of the node's outputs it is.
  Tensor grad;                 // Of a leaf, by Tensor::Backward.
};

// Values for people: "f32[2, 3] {1, 2, 3, ...}".
std::string ToString(const Tensor& tensor, int max_values = 16);

}  // namespace trireme
