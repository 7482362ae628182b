// The Moreau envelope F(w) = min_theta f(theta) + lambda/2 |theta - w|^2 has the gradient
// lambda (w - theta*). A personal model theta goes towards theta* by inner steps on the batch,
//   theta -= rate * (grad f(theta) + lambda (theta - w)),
// and lambda (w - theta) goes to the optimizer; SGD at rate eta makes it w -= eta lambda (w -
// theta). With rounds of parameters it is pFedMe: Dinh, Tran, Nguyen, "Personalized federated
// learning with Moreau envelopes", NeurIPS 2020. Where they leave open where the inner steps start:
// theta goes on from the last batch's, also past the end of a round, so that it stays a model of
// this replica's data and can be scored.
//
// theta has memory of its own. While it stands in the parameters' place, w is put aside.
#include "launch/local_steps.h"

namespace trireme {
namespace {

class ProximalStep : public LocalStep {
 public:
  explicit ProximalStep(const Params& params)
      : lambda_(params.Float("lambda")),
        rate_(params.Float("inner_learning_rate")),
        num_steps_(params.Int("inner_steps")) {}

  bool repeats_batches() const override { return num_steps_ > 1; }
  bool adds_up() const override { return false; }

  void Start(const ParameterSet& parameters) override {
    theta_.Allocate(parameters, MemoryKind::kOptimizer, "personal model");
    w_.Allocate(parameters, MemoryKind::kOptimizer, "parameters beside the personal model");
  }

  StatusOr<std::vector<CompletedJob>> Run(const LocalPasses& passes) override {
    const ParameterSet& parameters = passes.parameters;
    RETURN_IF_ERROR(CatchFailure([&] {
      w_.CopyFromOwned(parameters);
      theta_.CopyToOwned(parameters);
    }));
    RETURN_IF_ERROR(passes.refresh());
    std::vector<CompletedJob> jobs;
    LossSum loss;
    for (int64_t k = 0; k < num_steps_; ++k) {
      ASSIGN_OR_RETURN(jobs, passes.gradients(0, /*plain=*/false));
      if (k == 0) loss = jobs[0].loss;  // Of samples that theta has not seen.
      RETURN_IF_ERROR(CatchFailure([&] { InnerStep(parameters, jobs[0]); }));
      RETURN_IF_ERROR(passes.refresh());
    }
    RETURN_IF_ERROR(CatchFailure([&] {
      theta_.CopyFromOwned(parameters);
      w_.CopyToOwned(parameters);
      EnvelopeGradient(jobs[0], static_cast<double>(loss.count));
    }));
    RETURN_IF_ERROR(passes.refresh());
    jobs[0].loss = loss;
    return jobs;
  }

  absl::Span<const Tensor> personal() const override { return theta_.copies(); }
  void Restart(const ParameterSet& parameters) override { theta_.CopyFromOwned(parameters); }

 private:
  // The gradients become those of the regularized sum over the samples.
  void InnerStep(const ParameterSet& parameters, const CompletedJob& job) const {
    if (job.loss.count == 0) return;
    const double count = static_cast<double>(job.loss.count);
    for (size_t i = 0; i < parameters.parameters().size(); ++i) {
      if (!w_.of(i).defined()) continue;
      const Tensor& theta = parameters.parameters()[i]->owned;
      const Tensor& gradient = job.gradients->of(i);
      gradient.Accumulate(theta, count * lambda_);
      gradient.Accumulate(w_.of(i), -count * lambda_);
      theta.Accumulate(gradient, -rate_ / count);
    }
  }

  // As a sum over `count` labels, in the place of the job's gradients. w_ is scratch from here.
  void EnvelopeGradient(const CompletedJob& job, double count) const {
    for (size_t i = 0; i < w_.copies().size(); ++i) {
      if (!w_.of(i).defined()) continue;
      w_.of(i).Accumulate(theta_.of(i), -1);
      job.gradients->of(i).Fill(0);
      job.gradients->of(i).Accumulate(w_.of(i), count * lambda_);
    }
  }

  const double lambda_, rate_;
  const int64_t num_steps_;
  OwnedCopies theta_, w_;
};

}  // namespace

StatusOr<std::unique_ptr<LocalStep>> MakeProximalStep(const Params& params) {
  if (params.Float("lambda") == 0) {
    return absl::InvalidArgumentError(
        "proximal: lambda 0 leaves the parameters where they are: nothing holds the personal model "
        "to them");
  }
  return std::make_unique<ProximalStep>(params);
}

}  // namespace trireme
