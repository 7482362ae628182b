#include "core/module/model.h"

#include "core/autograd/backward.h"

namespace trireme {

Tensor ForwardLoss(Model& model, const Batch& batch, const ForwardContext& context,
                   bool recompute) {
  Tensor hidden;
  const int last = model.num_units() - 1;
  for (int unit = 0; unit <= last; ++unit) {
    if (hidden.defined()) hidden = UnitBoundary(hidden, unit);
    // The last unit's saved state lives for the shortest time; to drop it would save nothing.
    if (recompute && unit > 0 && unit < last) {
      hidden = Recompute({hidden}, [&model, unit, batch, context](absl::Span<const Tensor> inputs) {
        return std::vector<Tensor>{model.RunUnit(unit, inputs[0], batch, context)};
      })[0];
    } else {
      hidden = model.RunUnit(unit, hidden, batch, context);
    }
  }
  return hidden;
}

}  // namespace trireme
