#include "core/module/gradient_buffers.h"

#include <utility>

#include "core/base/log.h"

namespace trireme {

GradientBuffers::GradientBuffers(const ParameterSet& parameters, Device& device)
    : GradientBuffers(parameters,
                      UnitTensors(UnitsOf(parameters), WorkingShapes(parameters), device,
                                  MasterType(parameters), MemoryKind::kGradients, "gradients")) {}

GradientBuffers::GradientBuffers(const ParameterSet& parameters, const UnitTensors& flat) {
  for (const auto& parameter : parameters.parameters()) Add(*parameter, flat.of(size()));
}

std::unique_ptr<GradientBuffers> GradientBuffers::Transient(const ParameterSet& parameters,
                                                            Device& device) {
  std::unique_ptr<GradientBuffers> buffers(new GradientBuffers);
  buffers->transient_ = &device;
  for (const auto& parameter : parameters.parameters()) buffers->Add(*parameter, Tensor());
  return buffers;
}

void GradientBuffers::Add(const Parameter& parameter, Tensor buffer) {
  by_leaf_[parameter.working.impl().get()] = size();
  entries_.push_back({&parameter, std::move(buffer)});
}

void GradientBuffers::Reset() {
  for (Entry& entry : entries_) {
    entry.fresh = true;
    if (transient_ != nullptr) entry.buffer = Tensor();
  }
}

Tensor GradientBuffers::Take(int i) {
  CHECK(transient_ != nullptr) << "only transient gradients are taken";
  entries_[i].fresh = true;
  return std::exchange(entries_[i].buffer, Tensor());
}

void GradientBuffers::ZeroIfUntouched(int i) {
  if (entries_[i].fresh) Open(entries_[i]).buffer.Fill(0);
}

GradientSink::Slot GradientBuffers::Open(Entry& entry) {
  if (!entry.buffer.defined()) {
    entry.buffer =
        Tensor::Empty(*transient_, entry.parameter->spec.local.size, entry.parameter->owned.dtype(),
                      MemoryKind::kGradients, entry.parameter->spec.path);
  }
  return {entry.buffer, std::exchange(entry.fresh, false)};
}

GradientBuffers::Entry& GradientBuffers::EntryOf(const Tensor& leaf) {
  const auto it = by_leaf_.find(leaf.impl().get());
  CHECK(it != by_leaf_.end()) << "a gradient arrived for a leaf that is no parameter of the model";
  return entries_[it->second];
}

GradientSink::Slot GradientBuffers::Open(const Tensor& leaf) {
  Entry& entry = EntryOf(leaf);
  return entry.parameter->spec.frozen ? Slot{} : Open(entry);
}

bool GradientBuffers::Adopt(const Tensor& leaf, const Tensor& buffer) {
  Entry& entry = EntryOf(leaf);
  if (transient_ == nullptr || entry.buffer.defined()) return false;
  entry.buffer = buffer;
  entry.fresh = false;
  return true;
}

}  // namespace trireme
