#include "core/module/gradient_buffers.h"

#include <algorithm>

#include "core/base/log.h"

namespace trireme {

GradientBuffers::GradientBuffers(const ParameterSet& parameters, Device& device) {
  const auto& all = parameters.parameters();
  int num_units = 0;
  DType dtype = DType::kF32;
  for (const auto& parameter : all) {
    num_units = std::max(num_units, parameter->spec.unit + 1);
    dtype = parameter->owned.dtype();
  }
  std::vector<int64_t> offsets(all.size());
  int64_t offset = 0;
  for (int unit = 0; unit < num_units; ++unit) {
    unit_begin_.push_back(offset);
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i]->spec.unit != unit) continue;
      offsets[i] = offset;
      offset += all[i]->working.numel();
    }
  }
  unit_begin_.push_back(offset);
  flat_ = Tensor::Empty(device, {offset}, dtype, MemoryKind::kGradients, "gradients");
  for (size_t i = 0; i < all.size(); ++i) {
    const Tensor& working = all[i]->working;
    entries_.push_back(
        {flat_.View1D(offsets[i], working.numel()).WithShape(working.shape()), all[i]->spec.unit});
    by_leaf_[working.impl().get()] = static_cast<int>(i);
  }
}

void GradientBuffers::Reset() {
  for (Entry& entry : entries_) entry.fresh = true;
}

void GradientBuffers::ZeroUntouched(int first_unit, int last_unit) {
  for (Entry& entry : entries_) {
    if (!entry.fresh || entry.unit < first_unit || entry.unit > last_unit) continue;
    entry.buffer.Fill(0);
    entry.fresh = false;
  }
}

GradientSink::Slot GradientBuffers::Open(const Tensor& leaf) {
  const auto it = by_leaf_.find(leaf.impl().get());
  CHECK(it != by_leaf_.end()) << "a gradient arrived for a leaf that is no parameter of the model";
  Entry& entry = entries_[it->second];
  return {entry.buffer, std::exchange(entry.fresh, false)};
}

void GradientBuffers::UnitDone(int unit) {
  if (unit_callback_ != nullptr) unit_callback_(unit);
}

Tensor GradientBuffers::Units(int first_unit, int last_unit) const {
  const int64_t begin = unit_begin_[first_unit];
  return flat_.View1D(begin, unit_begin_[last_unit + 1] - begin);
}

}  // namespace trireme
