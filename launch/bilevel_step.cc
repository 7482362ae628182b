// Two problems in one: x minimizes F(x) = f(x, y*(x)), where y*(x) minimizes g(x, .). Of a step's
// two batches g is the loss on the first, f that on the second; x are the parameters that `upper`
// matches, y all others. y takes a few steps down g, and then
//
//   dF/dx = df/dx - d2g/dxdy v,   v = eta sum_{q = 0..terms} (I - eta d2g/dydy)^q df/dy
//
// a Neumann series for the inverse of d2g/dydy (eta below 2 over its largest eigenvalue), each
// product with a second derivative by a central difference of gradients. Where exchanges add
// gradients up, y's gradients, the terms of the series and dF/dx are those of all replicas, as in
// FedMBO: Huang, Zhang, Ji, "Achieving linear speedup in non-IID federated bilevel learning", ICML
// 2023.
#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/base/pattern.h"
#include "launch/local_steps.h"

namespace trireme {
namespace {

class BilevelStep : public LocalStep {
 public:
  explicit BilevelStep(const Params& params)
      : upper_pattern_(params.String("upper")),
        lower_steps_(params.Int("lower_steps")),
        lower_rate_(params.Float("lower_learning_rate")),
        terms_(params.Int("terms")),
        eta_(params.Float("series_rate")),
        difference_(params.Float("difference")) {}

  int num_batches() const override { return 2; }
  bool repeats_batches() const override { return true; }

  void Start(const ParameterSet& parameters) override {
    bool has_lower = false, has_upper = false;
    for (const auto& parameter : parameters.parameters()) {
      const bool upper = MatchesPattern(upper_pattern_, parameter->spec.path);
      is_lower_.push_back(!upper && !parameter->spec.frozen);
      is_upper_.push_back(upper && !parameter->spec.frozen);
      has_lower |= is_lower_.back();
      has_upper |= is_upper_.back();
    }
    if (!has_lower || !has_upper) {
      ThrowIfError(absl::InvalidArgumentError(absl::StrCat(
          "local_step.upper: '", upper_pattern_, "' matches ", has_upper ? "every" : "no",
          " parameter that is trained; bilevel needs "
          "some above and some below")));
    }
    original_.Allocate(parameters, MemoryKind::kOptimizer, "parameters before lower steps");
    base_.Allocate(parameters, MemoryKind::kOptimizer, "parameters after lower steps");
    result_.Allocate(parameters, MemoryKind::kOptimizer, "bilevel gradient");
    term_.Allocate(parameters, MemoryKind::kOptimizer, "term of the series");
    sum_.Allocate(parameters, MemoryKind::kOptimizer, "sum of the series");
    product_.Allocate(parameters, MemoryKind::kOptimizer, "product with second derivatives");
  }

  StatusOr<std::vector<CompletedJob>> Run(const LocalPasses& passes) override {
    std::vector<CompletedJob> jobs;
    const Status status = CatchFailure([&] { jobs = Gradient(passes); });
    // Whatever happened, the parameters are what they were.
    RETURN_IF_ERROR(CatchFailure([&] { original_.CopyToOwned(passes.parameters); }));
    RETURN_IF_ERROR(passes.refresh());
    RETURN_IF_ERROR(status);
    return jobs;
  }

 private:
  std::vector<CompletedJob> Gradient(const LocalPasses& passes) {
    original_.CopyFromOwned(passes.parameters);
    Fill(result_, 0);
    for (int64_t step = 0; step < lower_steps_; ++step) {
      AddGradient(passes, 0, is_lower_, 1, result_);
      original_.CopyToOwned(passes.parameters);
      Move(passes, result_, -lower_rate_);
    }
    base_.CopyFromOwned(passes.parameters);

    Fill(term_, 0);
    std::vector<CompletedJob> jobs = AddGradient(passes, 1, is_upper_, 1, result_);
    // The same gradients, still there.
    const double count = Count(jobs);
    for (size_t i = 0; i < is_lower_.size(); ++i) {
      if (is_lower_[i]) term_.of(i).Accumulate(jobs[0].gradients->of(i), 1 / count);
    }
    const LossSum loss = jobs[0].loss;
    Fill(sum_, 0);
    Add(term_, 1, is_lower_, sum_);
    for (int64_t q = 0; q < terms_; ++q) {
      Product(passes, term_, is_lower_);
      Add(product_, -eta_, is_lower_, term_);
      Add(term_, 1, is_lower_, sum_);
    }
    Product(passes, sum_, is_upper_);
    Add(product_, -eta_, is_upper_, result_);

    // As sums over the labels of f.
    for (size_t i = 0; i < is_lower_.size(); ++i) {
      if (!is_lower_[i] && !is_upper_[i]) continue;
      jobs[0].gradients->of(i).Fill(0);
      jobs[0].gradients->of(i).Accumulate(result_.of(i), count);
    }
    jobs[0].loss = loss;
    return jobs;
  }

  static double Count(const std::vector<CompletedJob>& jobs) {
    return static_cast<double>(std::max<int64_t>(1, jobs[0].loss.count));
  }

  // to += factor times the mean gradient of `batch`.
  std::vector<CompletedJob> AddGradient(const LocalPasses& passes, int batch,
                                        const std::vector<bool>& which, double factor,
                                        const OwnedCopies& to) {
    auto jobs = passes.gradients(batch, /*plain=*/true);
    ThrowIfError(jobs.status());
    for (size_t i = 0; i < which.size(); ++i) {
      if (which[i]) to.of(i).Accumulate((*jobs)[0].gradients->of(i), factor / Count(*jobs));
    }
    return *std::move(jobs);
  }

  // product_ = (second derivatives of g with respect to `which` and y) direction.
  void Product(const LocalPasses& passes, const OwnedCopies& direction,
               const std::vector<bool>& which) {
    Fill(product_, 0);
    for (const double sign : {1.0, -1.0}) {
      base_.CopyToOwned(passes.parameters);
      Move(passes, direction, sign * difference_);
      AddGradient(passes, 0, which, sign / (2 * difference_), product_);
    }
  }

  // y += factor direction.
  void Move(const LocalPasses& passes, const OwnedCopies& direction, double factor) {
    const auto& parameters = passes.parameters.parameters();
    for (size_t i = 0; i < is_lower_.size(); ++i) {
      if (is_lower_[i]) parameters[i]->owned.Accumulate(direction.of(i), factor);
    }
    ThrowIfError(passes.refresh());
  }

  static void Fill(const OwnedCopies& copies, double value) {
    for (const Tensor& copy : copies.copies()) {
      if (copy.defined()) copy.Fill(value);
    }
  }

  static void Add(const OwnedCopies& from, double factor, const std::vector<bool>& which,
                  const OwnedCopies& to) {
    for (size_t i = 0; i < which.size(); ++i) {
      if (which[i]) to.of(i).Accumulate(from.of(i), factor);
    }
  }

  const std::string upper_pattern_;
  const int64_t lower_steps_;
  const double lower_rate_;
  const int64_t terms_;
  const double eta_, difference_;
  std::vector<bool> is_lower_, is_upper_;  // By parameter.
  OwnedCopies original_, base_, result_, term_, sum_, product_;
};

}  // namespace

StatusOr<std::unique_ptr<LocalStep>> MakeBilevelStep(const Params& params) {
  return std::make_unique<BilevelStep>(params);
}

}  // namespace trireme
