#include "core/module/model.h"

#include "core/autograd/backward.h"

namespace trireme {

Tensor ForwardLoss(Model& model, const Batch& batch, const ForwardContext& context,
                   bool recompute) {
  Tensor hidden;
  const int last = model.num_units() - 1;
  for (int unit = 0; unit <= last; ++unit) {
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

Tensor ForwardLogits(Model& model, const Batch& batch, const ForwardContext& context) {
  Tensor hidden;
  for (int unit = 0; unit + 1 < model.num_units(); ++unit) {
    hidden = model.RunUnit(unit, hidden, batch, context);
  }
  return model.Logits(hidden, batch, context);
}

}  // namespace trireme
