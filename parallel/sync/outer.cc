// With d = delta, a = anchor, x = theta, e = inner learning rate, S = its sum over the round:
//
//   average   a = a - d
//   sgd       m = mu m + d;  a = a - lr (nesterov ? d + mu m : m)        (PyTorch's SGD)
//     scale = learning_rate       d / e for d, lr e for lr
//     scale = learning_rate_sum   s = S / reference: d / s for d, mu^s for mu, lr s for lr
//   slowmo    m = mu m + d / e;  a = a - lr e m
//   elastic   d_k = (beta / K) (x_k - a);  x_k = x_k - d_k;  a = a + sum_k d_k = a - beta d
//
// A round whose learning rates were zero moved nothing that a division by them could scale: it is
// averaged, and the momentum stays.
#include "parallel/sync/outer.h"

#include <cmath>

#include "core/base/log.h"

namespace trireme {
namespace {

constexpr ParamInfo kOuterSgdParams[] = {
    {"learning_rate", ParamType::kFloat, "0.7", "of the outer step", 0},
    {"momentum", ParamType::kFloat, "0.9", "decay of the velocity; 0 keeps no state", 0, 1},
    {"nesterov", ParamType::kBool, "true", "look ahead along the velocity"},
    {"scale", ParamType::kString, "none", "what differences are measured in", -kUnbounded,
     kUnbounded, "none|learning_rate|learning_rate_sum"},
    {"reference", ParamType::kFloat, "0",
     "scale learning_rate_sum: the sum over a round that learning_rate and momentum are meant for",
     0},
};

constexpr ParamInfo kSlowMoParams[] = {
    {"learning_rate", ParamType::kFloat, "1", "of the slow step", 0},
    {"momentum", ParamType::kFloat, "0.5", "decay of the slow momentum; 0 keeps no state", 0, 1},
};

constexpr ParamInfo kElasticParams[] = {
    {"beta", ParamType::kFloat, "0.9",
     "share of the mean difference that the anchor goes; each of K replicas goes beta / K of its "
     "own",
     0, 1},
};

void CheckViews(const OuterStep& step, const Outer& outer) {
  const auto fits = [&](const View& view) {
    return view.dtype == step.theta.dtype && view.numel() == step.theta.numel() &&
           view.contiguous();
  };
  CHECK(step.theta.dtype == DType::kF32 || step.theta.dtype == DType::kF64) << "[outer step]";
  CHECK(fits(step.theta) && fits(step.delta)) << "theta and delta differ [outer step]";
  CHECK(step.theta.numel() == 0 || !outer.needs_anchor() || step.anchor.defined())
      << "no anchor [outer step]";
  CHECK(!step.anchor.defined() || fits(step.anchor)) << "theta and anchor differ [outer step]";
  CHECK_EQ(step.states.size(), outer.state_names().size()) << "[outer step]";
  for (const View& state : step.states) {
    CHECK(fits(state)) << "theta and a state differ [outer step]";
  }
  CHECK(step.keep_local >= 0 && step.keep_local <= 1) << step.keep_local << " [outer step]";
  CHECK(!outer.merges_itself() || step.keep_local == 0) << "keep_local [outer step]";
}

// Calls fn with the type of the arithmetic.
template <typename Fn>
void Dispatch(const OuterStep& step, const Fn& fn) {
  step.theta.dtype == DType::kF64 ? fn(double{}) : fn(float{});
}

// The form x + (1 - keep) (a - x) leaves one replica, whose x is a, as it is.
template <typename T>
void Merge(const OuterStep& step, const T* anchor) {
  T* theta = step.theta.as<T>();
  const int64_t n = step.theta.numel();
  const T pull = static_cast<T>(1 - step.keep_local);
  if (step.keep_local == 0) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) theta[i] = anchor[i];
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) theta[i] += pull * (anchor[i] - theta[i]);
  }
}

// a = a - d, then theta.
template <typename T>
void AverageAs(const OuterStep& step) {
  T* anchor = step.anchor.as<T>();
  const T* delta = step.delta.as<T>();
  if (anchor == nullptr) return Merge<T>(step, delta);
  const int64_t n = step.theta.numel();
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) anchor[i] -= delta[i];
  Merge<T>(step, anchor);
}

class Average : public Outer {
 public:
  bool needs_anchor() const override { return false; }
  void Apply(const OuterStep& step) const override {
    CheckViews(step, *this);
    Dispatch(step, [&](auto zero) { AverageAs<decltype(zero)>(step); });
  }
};

enum class Scale { kNone, kLearningRate, kLearningRateSum };

struct MomentumRule {
  double learning_rate, momentum;
  bool nesterov;
  Scale scale = Scale::kNone;
  double reference = 0;
};

class Momentum : public Outer {
 public:
  explicit Momentum(const MomentumRule& rule) : rule_(rule) {}

  std::vector<std::string> state_names() const override {
    if (rule_.momentum == 0) return {};
    return {"momentum"};
  }

  void Apply(const OuterStep& step) const override {
    CheckViews(step, *this);
    double unit = 1, momentum = rule_.momentum;
    if (rule_.scale == Scale::kLearningRate) unit = step.learning_rate;
    if (rule_.scale == Scale::kLearningRateSum) {
      unit = step.learning_rate_sum / rule_.reference;
      momentum = std::pow(momentum, unit);
    }
    Dispatch(step, [&](auto zero) {
      using T = decltype(zero);
      unit > 0 ? Step<T>(step, unit, momentum) : AverageAs<T>(step);
    });
  }

 private:
  template <typename T>
  void Step(const OuterStep& step, double unit, double momentum) const {
    T* anchor = step.anchor.as<T>();
    const T* delta = step.delta.as<T>();
    const int64_t n = step.theta.numel();
    const T scale = static_cast<T>(1 / unit), mu = static_cast<T>(momentum);
    const T rate = static_cast<T>(rule_.learning_rate * unit);
    if (rule_.momentum == 0) {
      // The scales cancel.
      const T plain = static_cast<T>(rule_.learning_rate);
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) anchor[i] -= plain * delta[i];
    } else {
      T* velocity = step.states[0].as<T>();
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) {
        const T d = scale * delta[i];
        velocity[i] = mu * velocity[i] + d;
        anchor[i] -= rate * (rule_.nesterov ? d + mu * velocity[i] : velocity[i]);
      }
    }
    Merge<T>(step, anchor);
  }

  const MomentumRule rule_;
};

class Elastic : public Outer {
 public:
  explicit Elastic(double beta) : beta_(beta) {}

  bool merges_itself() const override { return true; }

  void Apply(const OuterStep& step) const override {
    CheckViews(step, *this);
    Dispatch(step, [&](auto zero) {
      using T = decltype(zero);
      T *anchor = step.anchor.as<T>(), *theta = step.theta.as<T>();
      const T* delta = step.delta.as<T>();
      const int64_t n = step.theta.numel();
      const T alpha = static_cast<T>(beta_ / step.num_replicas), beta = static_cast<T>(beta_);
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) {
        theta[i] -= alpha * (theta[i] - anchor[i]);
        anchor[i] -= beta * delta[i];
      }
    });
  }

 private:
  const double beta_;
};

StatusOr<std::unique_ptr<Outer>> MakeAverage(const Params&) { return std::make_unique<Average>(); }

StatusOr<std::unique_ptr<Outer>> MakeOuterSgd(const Params& params) {
  MomentumRule rule = {params.Float("learning_rate"), params.Float("momentum"),
                       params.Bool("nesterov")};
  rule.reference = params.Float("reference");
  const std::string& scale = params.String("scale");
  if (scale == "learning_rate") rule.scale = Scale::kLearningRate;
  if (scale == "learning_rate_sum") rule.scale = Scale::kLearningRateSum;
  if (rule.learning_rate == 0) {
    return absl::InvalidArgumentError("outer sgd: learning_rate 0 never moves the anchor");
  }
  if ((rule.scale == Scale::kLearningRateSum) != (rule.reference > 0)) {
    return absl::InvalidArgumentError(
        "outer sgd: scale learning_rate_sum needs a reference above 0, and only it has one");
  }
  return std::make_unique<Momentum>(rule);
}

StatusOr<std::unique_ptr<Outer>> MakeSlowMo(const Params& params) {
  const MomentumRule rule = {params.Float("learning_rate"), params.Float("momentum"), false,
                             Scale::kLearningRate};
  if (rule.learning_rate == 0) {
    return absl::InvalidArgumentError("slowmo: learning_rate 0 never moves the anchor");
  }
  return std::make_unique<Momentum>(rule);
}

StatusOr<std::unique_ptr<Outer>> MakeElastic(const Params& params) {
  const double beta = params.Float("beta");
  if (beta == 0) return absl::InvalidArgumentError("elastic: beta 0 never moves the anchor");
  return std::make_unique<Elastic>(beta);
}

}  // namespace

absl::Span<const Entry<OuterFactory>> Outers() {
  static constexpr Entry<OuterFactory> kEntries[] = {
#define OUTER(name, doc, params, factory) {#name, doc, params, factory},
#include "parallel/sync/outers.def"
#undef OUTER
  };
  return kEntries;
}

StatusOr<std::unique_ptr<Outer>> MakeOuter(absl::string_view name, const ParamMap& params) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("outer step", Outers(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry->name, entry->params, params));
  return entry->factory(checked);
}

}  // namespace trireme
