#include "optim/optimizer.h"

#include "optim/adamw.h"
#include "optim/onebit_adam.h"
#include "optim/sgd.h"

namespace trireme {

absl::Span<const Entry<OptimizerFactory>> Optimizers() {
  static constexpr Entry<OptimizerFactory> kEntries[] = {
#define OPTIMIZER(name, doc, params, factory) {#name, doc, params, factory},
#include "optim/optimizers.def"
#undef OPTIMIZER
  };
  return kEntries;
}

StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(absl::string_view name, const ParamMap& params) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("optimizer", Optimizers(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry->name, entry->params, params));
  return entry->factory(checked);
}

}  // namespace trireme
