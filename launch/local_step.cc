#include "launch/local_step.h"

#include "launch/local_steps.h"

namespace trireme {
namespace {

class PlainStep : public LocalStep {
 public:
  StatusOr<std::vector<CompletedJob>> Run(const LocalPasses& passes) override {
    return passes.gradients(0, /*plain=*/true);
  }
};

}  // namespace

StatusOr<std::unique_ptr<LocalStep>> MakePlainStep(const Params&) {
  return std::make_unique<PlainStep>();
}

absl::Span<const Entry<LocalStepFactory>> LocalSteps() {
  static constexpr Entry<LocalStepFactory> kEntries[] = {
#define LOCAL_STEP(name, doc, params, factory) {#name, doc, params, factory},
#include "launch/local_steps.def"
#undef LOCAL_STEP
  };
  return kEntries;
}

StatusOr<std::unique_ptr<LocalStep>> MakeLocalStep(absl::string_view name, const ParamMap& params) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("local_step", LocalSteps(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry->name, entry->params, params));
  return entry->factory(checked);
}

void OwnedCopies::Allocate(const ParameterSet& parameters, MemoryKind kind,
                           absl::string_view label) {
  copies_.clear();
  for (const auto& parameter : parameters.parameters()) {
    const Tensor& owned = parameter->owned;
    copies_.push_back(parameter->spec.frozen ? Tensor() : owned.CopyTo(owned.dtype(), kind, label));
  }
}

void OwnedCopies::CopyFromOwned(const ParameterSet& parameters) const {
  for (size_t i = 0; i < copies_.size(); ++i) {
    if (copies_[i].defined()) copies_[i].CopyFrom(parameters.parameters()[i]->owned);
  }
}

void OwnedCopies::CopyToOwned(const ParameterSet& parameters) const {
  for (size_t i = 0; i < copies_.size(); ++i) {
    if (copies_[i].defined()) parameters.parameters()[i]->owned.CopyFrom(copies_[i]);
  }
}

}  // namespace trireme
