#include "core/tensor/tensor.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/tensor/kernels.h"

namespace trireme {

Tensor Tensor::Empty(Device& device, const Shape& shape, DType dtype, MemoryKind kind,
                     absl::string_view label) {
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = Storage::Allocate(device, shape.numel() * DTypeSize(dtype), kind, label);
  impl->shape = shape;
  impl->strides = DenseStrides(shape);
  impl->dtype = dtype;
  return Tensor(std::move(impl));
}

Tensor Tensor::Full(Device& device, const Shape& shape, DType dtype, double value, MemoryKind kind,
                    absl::string_view label) {
  Tensor result = Empty(device, shape, dtype, kind, label);
  result.Fill(value);
  return result;
}

Tensor Tensor::FromBytes(Device& device, const Shape& shape, DType dtype, const void* values,
                         size_t count) {
  CHECK_EQ(static_cast<int64_t>(count), shape.numel()) << "values for shape " << shape;
  Tensor result = Empty(device, shape, dtype);
  device.Copy(result.raw(), values, count * DTypeSize(dtype), device.compute());
  return result;
}

Tensor Tensor::FromVector(Device& device, const Shape& shape, const std::vector<double>& values,
                          DType dtype) {
  return FromHost<double>(device, shape, values).CopyTo(dtype);
}

const Shape& Tensor::shape() const {
  CHECK(defined()) << "an undefined tensor has no shape";
  return impl_->shape;
}

const Shape& Tensor::strides() const { return impl_->strides; }

DType Tensor::dtype() const {
  CHECK(defined()) << "an undefined tensor has no dtype";
  return impl_->dtype;
}

Device& Tensor::device() const { return storage()->device(); }

const std::shared_ptr<Storage>& Tensor::storage() const {
  CHECK(defined()) << "an undefined tensor has no storage";
  return impl_->storage;
}

void* Tensor::raw() const {
  return static_cast<char*>(storage()->data()) + impl_->offset * DTypeSize(impl_->dtype);
}

void* Tensor::RawData(DType expected) const {
  CHECK(dtype() == expected) << "a " << DTypeName(dtype()) << " tensor was read as "
                             << DTypeName(expected);
  return raw();
}

View Tensor::view() const {
  View view;
  view.data = raw();
  view.dtype = impl_->dtype;
  view.rank = impl_->shape.rank();
  for (int i = 0; i < view.rank; ++i) {
    view.sizes[i] = impl_->shape[i];
    view.strides[i] = impl_->strides[i];
  }
  return view;
}

bool Tensor::is_contiguous() const {
  int64_t stride = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (dim(i) != 1 && impl_->strides[i] != stride) return false;
    stride *= dim(i);
  }
  return true;
}

std::vector<double> Tensor::ToVector() const {
  return (dtype() == DType::kF64 ? *this : CopyTo(DType::kF64)).ToHost<double>();
}

void Tensor::CopyToHost(void* values, DType expected) const {
  const Tensor dense = Contiguous();
  device().Copy(values, dense.RawData(expected), numel() * DTypeSize(dtype()), device().compute());
  ThrowIfError(device().Synchronize());
}

double Tensor::Item() const {
  CHECK_EQ(numel(), 1) << "Item of shape " << shape();
  return ToVector()[0];
}

Tensor Tensor::AsStrided(const Shape& shape, const Shape& strides, int64_t offset) const {
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = storage();
  impl->offset = impl_->offset + offset;
  impl->shape = shape;
  impl->strides = strides;
  impl->dtype = impl_->dtype;
  return Tensor(std::move(impl));
}

Tensor Tensor::View1D(int64_t begin, int64_t size) const {
  CHECK(is_contiguous() && begin >= 0 && size >= 0 && begin + size <= numel())
      << "elements [" << begin << ", " << begin + size << ") of " << shape();
  return AsStrided({size}, {1}, begin);
}

Tensor Tensor::WithShape(const Shape& new_shape) const {
  CHECK(is_contiguous()) << "a strided tensor of shape " << shape()
                         << " cannot be reshaped in place";
  CHECK_EQ(new_shape.numel(), numel()) << new_shape << " from " << shape();
  return AsStrided(new_shape, DenseStrides(new_shape), 0);
}

Tensor Tensor::Contiguous() const { return is_contiguous() ? Detach() : CopyTo(dtype()); }

Tensor Tensor::CopyTo(DType dtype, MemoryKind kind, absl::string_view label) const {
  Tensor result = Empty(device(), shape(), dtype, kind, label);
  result.CopyFrom(*this);
  return result;
}

void Tensor::CopyFrom(const Tensor& src) const {
  CHECK(src.shape() == shape()) << "copy of " << src.shape() << " into " << shape();
  Launch(device(), &KernelTable::Copy, CopyArgs{src.view(), view()});
}

void Tensor::Fill(double value) const {
  Launch(device(), &KernelTable::Fill, FillArgs{view(), value});
}

void Tensor::Accumulate(const Tensor& src, double alpha) const {
  CHECK(src.shape() == shape()) << "accumulation of " << src.shape() << " into " << shape();
  Launch(device(), &KernelTable::Accumulate, AccumulateArgs{src.view(), view(), alpha});
}

bool Tensor::requires_grad() const { return defined() && impl_->requires_grad; }

bool Tensor::is_leaf() const { return requires_grad() && impl_->node == nullptr; }

Tensor& Tensor::set_requires_grad(bool value) {
  CHECK(defined() && impl_->node == nullptr) << "only a leaf can be told to require a gradient";
  CHECK(!value || IsFloating(dtype())) << DTypeName(dtype()) << " tensors have no gradient";
  impl_->requires_grad = value;
  return *this;
}

Tensor Tensor::Detach() const { return AsStrided(shape(), strides(), 0); }

Tensor Tensor::grad() const {
  CHECK(defined());
  return impl_->grad;
}

void Tensor::ClearGrad() const { impl_->grad = Tensor(); }

std::string ToString(const Tensor& tensor, int max_values) {
  if (!tensor.defined()) return "undefined";
  std::string text = absl::StrCat(DTypeName(tensor.dtype()), tensor.shape().ToString(), " {");
  const std::vector<double> values = tensor.ToVector();
  for (size_t i = 0; i < values.size(); ++i) {
    if (i == static_cast<size_t>(max_values)) {
      text += ", ...";
      break;
    }
    absl::StrAppendFormat(&text, "%s%.6g", i == 0 ? "" : ", ", values[i]);
  }
  return text + "}";
}

}  // namespace trireme
