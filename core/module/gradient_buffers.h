// Gradients of a model's parameters on this rank, in the accumulation type, with the shapes of the
// working copies: where backward adds.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "core/autograd/gradient_sink.h"
#include "core/module/unit_tensors.h"

namespace trireme {

class GradientBuffers : public GradientSink {
 public:
  // Memory of its own, one dense run. Throws Failure when memory runs out. The parameters must be
  // materialized and outlive this.
  GradientBuffers(const ParameterSet& parameters, Device& device);
  // In the memory of `flat`, whose shapes are those of the working copies.
  GradientBuffers(const ParameterSet& parameters, const UnitTensors& flat);

  // Each gradient comes to be with its first contribution and goes with Take.
  static std::unique_ptr<GradientBuffers> Transient(const ParameterSet& parameters, Device& device);

  // Forgets all values: the next contribution to each parameter overwrites.
  void Reset();
  // Zero, when no contribution reached it.
  void ZeroIfUntouched(int i);
  // The sum so far of a transient gradient, which the next contribution starts anew.
  Tensor Take(int i);

  Slot Open(const Tensor& leaf) override;
  // Transient gradients that do not exist yet.
  bool Adopt(const Tensor& leaf, const Tensor& buffer) override;

  // Of parameter i of the set, as its local box.
  const Tensor& gradient(int i) const { return entries_[i].buffer; }
  int size() const { return static_cast<int>(entries_.size()); }

 private:
  struct Entry {
    const Parameter* parameter;
    Tensor buffer;
    bool fresh = true;
  };

  GradientBuffers() = default;
  void Add(const Parameter& parameter, Tensor buffer);
  Slot Open(Entry& entry);
  Entry& EntryOf(const Tensor& leaf);

  Device* transient_ = nullptr;  // Where transient gradients are made.
  std::vector<Entry> entries_;   // By parameter.
  std::unordered_map<const TensorImpl*, int> by_leaf_;
};

}  // namespace trireme
