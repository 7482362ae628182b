// Steps 1 to freeze_step: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2. Afterwards v stays, and
// what comes for a gradient is m itself, which an exchange of point momentum and state "exp_avg"
// has made of the moments of all replicas. In both, p -= lr (m / (sqrt(v) + eps) + decay p).
//
// There are no bias corrections in either stage: that of a frozen v could not go on, and one that
// ended at freeze_step would make the step jump by sqrt(1 - b2^t), a factor of 3 after a hundred
// steps of b2 = 0.999. A warm-up of the learning rate does for the first steps what they do.
//
// Codecs of signs have no zero. Where v is zero no gradient was ever seen (the embedding of a word
// that the data lacks), and m / eps would throw the parameter away: there m stays zero.
#include "optim/onebit_adam.h"

#include <limits>

#include "core/autograd/node.h"
#include "core/device/kernel.h"
#include "core/ops/ops.h"
#include "optim/update_items.h"

namespace trireme {
namespace {

// At this step the bias corrections of Adam are 1.
constexpr int64_t kManySteps = std::numeric_limits<int64_t>::max();

class OneBitAdam : public Optimizer {
 public:
  explicit OneBitAdam(const Params& params)
      : beta1_(params.Float("beta1")),
        beta2_(params.Float("beta2")),
        epsilon_(params.Float("epsilon")),
        weight_decay_(params.Float("weight_decay")),
        freeze_step_(params.Int("freeze_step")) {}

  std::vector<std::string> state_names() const override { return {"exp_avg", "exp_avg_sq"}; }
  double weight_decay() const override { return weight_decay_; }

  void Update(absl::Span<const UpdateSlice> slices, double grad_scale,
              int64_t step) const override {
    if (slices.empty()) return;
    if (step > freeze_step_) {
      for (const UpdateSlice& slice : slices) FrozenUpdate(slice, grad_scale);
      return;
    }
    const std::vector<UpdateItem> items = MakeUpdateItems(slices);
    Launch(slices[0].owned.device(), &KernelTable::AdamW,
           AdamWArgs{items.data(), static_cast<int64_t>(items.size()), grad_scale, beta1_, beta2_,
                     epsilon_, kManySteps});
  }

 private:
  void FrozenUpdate(const UpdateSlice& slice, double grad_scale) const {
    const NoGrad no_grad;
    const Tensor &p = slice.owned, &m = slice.states[0], &v = slice.states[1];
    const Tensor none = Tensor::Zeros(v.device(), v.shape(), v.dtype());
    m.CopyFrom(Where(Less(none, v), Mul(slice.grad, grad_scale), none));
    const Tensor direction = Div(m, Add(Sqrt(v), epsilon_));
    if (slice.weight_decay != 0) direction.Accumulate(p, slice.weight_decay);
    p.Accumulate(direction, -slice.learning_rate);
    if (slice.working.defined()) slice.working.CopyFrom(p);
  }

  const double beta1_, beta2_, epsilon_, weight_decay_;
  const int64_t freeze_step_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeOneBitAdam(const Params& params) {
  return std::make_unique<OneBitAdam>(params);
}

}  // namespace trireme
