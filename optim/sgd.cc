// SGD: g = grad + decay p; b = momentum b + (1 - dampening) g (b = g at the first step);
// p -= lr (nesterov ? g + momentum b : b). The convention of PyTorch's SGD.
#include "optim/sgd.h"

#include "core/device/kernel.h"
#include "optim/update_items.h"

namespace trireme {
namespace {

class Sgd : public Optimizer {
 public:
  explicit Sgd(const Params& params)
      : momentum_(params.Float("momentum")),
        dampening_(params.Float("dampening")),
        nesterov_(params.Bool("nesterov")),
        weight_decay_(params.Float("weight_decay")) {}

  std::vector<std::string> state_names() const override {
    if (momentum_ == 0) return {};
    return {"momentum"};
  }
  double weight_decay() const override { return weight_decay_; }

  void Update(absl::Span<const UpdateSlice> slices, double grad_scale,
              int64_t step) const override {
    if (slices.empty()) return;
    const std::vector<UpdateItem> items = MakeUpdateItems(slices);
    Launch(slices[0].owned.device(), &KernelTable::Sgd,
           SgdArgs{items.data(), static_cast<int64_t>(items.size()), grad_scale, momentum_,
                   dampening_, nesterov_, step});
  }

 private:
  const double momentum_, dampening_;
  const bool nesterov_;
  const double weight_decay_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeSgd(const Params& params) { return std::make_unique<Sgd>(params); }

}  // namespace trireme
