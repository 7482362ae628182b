// Model-agnostic meta-learning without second derivatives: the gradient on the second batch of a
// step at theta - alpha * (the replica's gradient on the first), applied at theta. With rounds of
// parameters it is Per-FedAvg (FO): Fallah, Mokhtari, Ozdaglar, "Personalized federated learning
// with theoretical guarantees: a model-agnostic meta-learning approach", NeurIPS 2020.
#include <algorithm>

#include "launch/local_steps.h"

namespace trireme {
namespace {

class MamlStep : public LocalStep {
 public:
  explicit MamlStep(const Params& params) : rate_(params.Float("inner_learning_rate")) {}

  int num_batches() const override { return 2; }

  void Start(const ParameterSet& parameters) override {
    original_.Allocate(parameters, MemoryKind::kOptimizer, "parameters before adapting");
  }

  StatusOr<std::vector<CompletedJob>> Run(const LocalPasses& passes) override {
    const auto& parameters = passes.parameters.parameters();
    ASSIGN_OR_RETURN(const std::vector<CompletedJob> first, passes.gradients(0, /*plain=*/false));
    RETURN_IF_ERROR(CatchFailure([&] {
      original_.CopyFromOwned(passes.parameters);
      for (size_t i = 0; i < parameters.size(); ++i) {
        // A batch without a label leaves its gradients at zero.
        const double count = std::max<int64_t>(1, first[0].loss.count);
        if (parameters[i]->spec.frozen) continue;
        parameters[i]->owned.Accumulate(first[0].gradients->of(i), -rate_ / count);
      }
    }));
    RETURN_IF_ERROR(passes.refresh());
    auto second = passes.gradients(1, /*plain=*/true);
    RETURN_IF_ERROR(CatchFailure([&] { original_.CopyToOwned(passes.parameters); }));
    RETURN_IF_ERROR(passes.refresh());
    return second;
  }

 private:
  const double rate_;
  OwnedCopies original_;
};

}  // namespace

StatusOr<std::unique_ptr<LocalStep>> MakeMamlStep(const Params& params) {
  return std::make_unique<MamlStep>(params);
}

}  // namespace trireme
