#include "core/module/unit_tensors.h"

#include <algorithm>

#include "core/base/log.h"

namespace trireme {

UnitTensors::UnitTensors(absl::Span<const int> units, absl::Span<const Shape> shapes,
                         Device& device, DType dtype, MemoryKind kind, absl::string_view label) {
  CHECK_EQ(units.size(), shapes.size());
  int num_units = 0;
  for (const int unit : units) num_units = std::max(num_units, unit + 1);
  std::vector<int64_t> offsets(units.size());
  int64_t offset = 0;
  for (int unit = 0; unit < num_units; ++unit) {
    unit_begin_.push_back(offset);
    for (size_t i = 0; i < units.size(); ++i) {
      if (units[i] != unit) continue;
      offsets[i] = offset;
      offset += shapes[i].numel();
    }
  }
  unit_begin_.push_back(offset);
  flat_ = Tensor::Empty(device, {offset}, dtype, kind, label);
  for (size_t i = 0; i < units.size(); ++i) {
    tensors_.push_back(flat_.View1D(offsets[i], shapes[i].numel()).WithShape(shapes[i]));
  }
}

Tensor UnitTensors::Units(int first, int last) const {
  const int64_t begin = unit_begin_[first];
  return flat_.View1D(begin, unit_begin_[last + 1] - begin);
}

std::vector<int> UnitsOf(const ParameterSet& parameters) {
  std::vector<int> units;
  for (const auto& parameter : parameters.parameters()) units.push_back(parameter->unit());
  return units;
}

namespace {

Shape GradientShape(const Parameter& parameter, const Shape& shape) {
  return parameter.spec.frozen ? shape.WithDim(0, 0) : shape;
}

}  // namespace

std::vector<Shape> WorkingShapes(const ParameterSet& parameters) {
  std::vector<Shape> shapes;
  for (const auto& parameter : parameters.parameters()) {
    shapes.push_back(GradientShape(*parameter, parameter->spec.local.size));
  }
  return shapes;
}

std::vector<Shape> OwnedShapes(const ParameterSet& parameters) {
  std::vector<Shape> shapes;
  for (const auto& parameter : parameters.parameters()) {
    shapes.push_back(GradientShape(*parameter, parameter->owned_box.size));
  }
  return shapes;
}

DType MasterType(const ParameterSet& parameters) {
  const auto& all = parameters.parameters();
  return all.empty() ? DType::kF32 : all.front()->owned.dtype();
}

}  // namespace trireme
