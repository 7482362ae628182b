#include "tests/core/ops/op_case.h"

#include <cmath>

#include "core/base/rng.h"

namespace trireme::testing {
namespace {

// Reads `x` at the position `index` (row-major) of `shape`, to which it broadcasts.
double ReadStretched(const HostTensor& x, const Shape& shape, int64_t index) {
  int64_t offset = 0, stride = 1;
  for (int i = 1; i <= shape.rank(); ++i) {
    const int64_t coordinate = index % shape[-i];
    index /= shape[-i];
    if (i > x.shape.rank()) continue;
    if (x.shape[-i] != 1) offset += coordinate * stride;
    stride *= x.shape[-i];
  }
  return x.values[offset];
}

template <typename Fn>
Reference PointwiseOf(Fn fn) {
  return [fn](const std::vector<HostTensor>& in) {
    Shape shape = in[0].shape;
    for (const HostTensor& x : in) shape = BroadcastShapes(shape, x.shape);
    HostTensor y = HostZeros(shape);
    for (int64_t i = 0; i < shape.numel(); ++i) {
      std::vector<double> values;
      for (const HostTensor& x : in) values.push_back(ReadStretched(x, shape, i));
      y.values[i] = fn(values);
    }
    return y;
  };
}

}  // namespace

HostTensor HostZeros(const Shape& shape) {
  return {shape, std::vector<double>(shape.numel(), 0.0)};
}

Reference Pointwise(std::function<double(double)> fn) {
  return PointwiseOf([fn](const std::vector<double>& v) { return fn(v[0]); });
}
Reference Pointwise(std::function<double(double, double)> fn) {
  return PointwiseOf([fn](const std::vector<double>& v) { return fn(v[0], v[1]); });
}
Reference Pointwise(std::function<double(double, double, double)> fn) {
  return PointwiseOf([fn](const std::vector<double>& v) { return fn(v[0], v[1], v[2]); });
}

std::vector<Tensor> MakeInputs(Device& device, const std::vector<InputSpec>& specs, DType dtype) {
  std::vector<Tensor> inputs;
  for (size_t k = 0; k < specs.size(); ++k) {
    const InputSpec& spec = specs[k];
    const RngKey key = MakeRngKey(k, "op case");
    std::vector<double> values(spec.shape.numel());
    for (size_t i = 0; i < values.size(); ++i) {
      switch (spec.kind) {
        case InputSpec::kNormal:
          values[i] = NormalAt(key, i);
          break;
        case InputSpec::kPositive:
          values[i] = 0.5 + UniformAt(key, i);
          break;
        case InputSpec::kIndex:
          values[i] = std::floor(UniformAt(key, i) * spec.limit);
          break;
        case InputSpec::kLabel:
          values[i] = i % 3 == 1 ? kIgnoredLabel : std::floor(UniformAt(key, i) * spec.limit);
          break;
        case InputSpec::kMask:
          values[i] = UniformAt(key, i) < 0.5;
          break;
      }
    }
    DType of_kind = dtype;
    if (spec.kind == InputSpec::kMask) of_kind = DType::kU8;
    if (spec.kind == InputSpec::kIndex || spec.kind == InputSpec::kLabel) of_kind = DType::kI32;
    // Rounded to f32 and bf16, so that all element types start from the same values.
    Tensor x = Tensor::FromVector(device, spec.shape, values, DType::kBF16);
    if (!IsFloating(of_kind)) x = Tensor::FromVector(device, spec.shape, values, of_kind);
    inputs.push_back(x.CopyTo(of_kind));
  }
  return inputs;
}

TokenLayout RaggedLayout(Device& device, int64_t n) {
  TokenLayout layout;
  const int64_t first = n / 3;
  layout.segments = {{3, 5, first}, {5, 0, n - first}};
  layout.documents = layout.segments;
  std::vector<int64_t> sample;
  std::vector<int32_t> position;
  for (const Segment& segment : layout.segments) {
    for (int64_t i = 0; i < segment.length; ++i) {
      sample.push_back(segment.sample);
      position.push_back(static_cast<int32_t>(segment.begin + i));
    }
  }
  layout.sample = Tensor::FromHost<int64_t>(device, {n}, sample);
  layout.position = Tensor::FromHost<int32_t>(device, {n}, position);
  return layout;
}

}  // namespace trireme::testing
