// A tensor for each parameter of a set in one dense run of elements, unit by unit, so that buckets
// of neighbouring units need no packing.
#pragma once

#include <vector>

#include "core/module/parameter.h"

namespace trireme {

class UnitTensors {
 public:
  UnitTensors() = default;
  // Of parameter i: units[i] says where it stands, shapes[i] what it is. Throws Failure when memory
  // runs out.
  UnitTensors(absl::Span<const int> units, absl::Span<const Shape> shapes, Device& device,
              DType dtype, MemoryKind kind, absl::string_view label);

  const Tensor& of(int i) const { return tensors_[i]; }
  // All elements of units [first, last]; may be empty.
  Tensor Units(int first, int last) const;
  const Tensor& All() const { return flat_; }
  // One more than the last unit that has a parameter.
  int num_units() const { return static_cast<int>(unit_begin_.size()) - 1; }

 private:
  Tensor flat_;
  std::vector<Tensor> tensors_;
  std::vector<int64_t> unit_begin_;  // Offsets into flat_; one more than there are units.
};

// The first unit of each parameter on this rank.
std::vector<int> UnitsOf(const ParameterSet& parameters);
// The shapes of gradients: as this rank's working copies, and as its owned slices. What is frozen
// has no rows.
std::vector<Shape> WorkingShapes(const ParameterSet& parameters);
std::vector<Shape> OwnedShapes(const ParameterSet& parameters);
// The type of owned slices and gradients.
DType MasterType(const ParameterSet& parameters);

}  // namespace trireme
