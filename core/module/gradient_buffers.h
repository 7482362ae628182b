// Gradients of a model's parameters, in the accumulation type, laid out unit by unit: the gradients of a
// unit are one dense run of elements, and so are those of neighbouring units, so that buckets need no
// packing.
#pragma once

#include <functional>
#include <unordered_map>
#include <vector>

#include "core/autograd/gradient_sink.h"
#include "core/module/parameter.h"

namespace trireme {

class GradientBuffers : public GradientSink {
 public:
  // Throws Failure when memory runs out. The parameters must be materialized and outlive this.
  GradientBuffers(const ParameterSet& parameters, Device& device);

  // Called when the gradients of a unit are complete for this backward pass.
  using UnitCallback = std::function<void(int unit)>;
  void set_unit_callback(UnitCallback callback) { unit_callback_ = std::move(callback); }

  // Forgets all values: the next contribution to each parameter overwrites.
  void Reset();
  // Zeroes what no contribution reached in these units.
  void ZeroUntouched(int first_unit, int last_unit);

  Slot Open(const Tensor& leaf) override;
  void UnitDone(int unit) override;

  // The gradient of parameter i of the set, as its local box.
  const Tensor& gradient(int i) const { return entries_[i].buffer; }
  // All elements of units [first, last], dense; may be empty.
  Tensor Units(int first_unit, int last_unit) const;
  Tensor All() const { return flat_; }
  int num_units() const { return static_cast<int>(unit_begin_.size()) - 1; }

 private:
  struct Entry {
    Tensor buffer;
    int unit = 0;
    bool fresh = true;
  };
  Tensor flat_;
  std::vector<Entry> entries_;         // By parameter.
  std::vector<int64_t> unit_begin_;    // Offsets into flat_; one more than there are units.
  std::unordered_map<const TensorImpl*, int> by_leaf_;
  UnitCallback unit_callback_;
};

}  // namespace trireme
