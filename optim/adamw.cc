// AdamW: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
// p = (1 - lr decay) p - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps).
// Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.
#include "optim/adamw.h"

#include "core/device/kernel.h"
#include "optim/update_items.h"

namespace trireme {
namespace {

class AdamW : public Optimizer {
 public:
  explicit AdamW(const Params& params)
      : beta1_(params.Float("beta1")),
        beta2_(params.Float("beta2")),
        epsilon_(params.Float("epsilon")),
        weight_decay_(params.Float("weight_decay")) {}

  std::vector<std::string> state_names() const override { return {"exp_avg", "exp_avg_sq"}; }
  double weight_decay() const override { return weight_decay_; }

  void Update(absl::Span<const UpdateSlice> slices, double grad_scale,
              int64_t step) const override {
    if (slices.empty()) return;
    const std::vector<UpdateItem> items = MakeUpdateItems(slices);
    Launch(slices[0].owned.device(), &KernelTable::AdamW,
           AdamWArgs{items.data(), static_cast<int64_t>(items.size()), grad_scale, beta1_, beta2_,
                     epsilon_, step});
  }

 private:
  const double beta1_, beta2_, epsilon_, weight_decay_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeAdamW(const Params& params) {
  return std::make_unique<AdamW>(params);
}

}  // namespace trireme
