// The bilevel step on quadratics, whose hyper-gradient is known:
//   g = (y - A x)' B (y - A x) / 2,  f = |y - c|^2 / 2 + rho |x|^2 / 2,
//   dF/dx at (x, y) = rho x + A' (y - c), whatever B, since d2g/dxdy = -A' B and d2g/dydy = B.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "core/ops/devices.h"
#include "launch/local_step.h"

namespace trireme {
namespace {

constexpr int kX = 2, kY = 3;
constexpr double kA[kY][kX] = {{1, -0.5}, {0.3, 2}, {-1, 0.7}};
constexpr double kB[kY][kY] = {{1.2, 0.2, -0.1}, {0.2, 0.9, 0.3}, {-0.1, 0.3, 1.4}};
constexpr double kC[kY] = {0.4, -1, 2};
constexpr double kRho = 0.25;
constexpr int64_t kCount = 4;  // Labels: gradients come as sums over them.

struct Problem {
  std::unique_ptr<Device> device = MakeCpuDevice();
  ParameterSet parameters;
  UnitTensors gradients;
  int num_gradients = 0;

  Problem() {
    Declare("upper.x", kX, {0.8, -0.6});
    Declare("lower.y", kY, {0.1, 0.5, -0.9});
    EXPECT_TRUE(parameters.Materialize(*device, DType::kF64, 1).ok());
    gradients = UnitTensors(UnitsOf(parameters), OwnedShapes(parameters), *device, DType::kF64,
                            MemoryKind::kGradients, "gradients");
  }

  void Declare(const char* path, int64_t size, std::vector<double> values) {
    ParamSpec spec;
    spec.path = path;
    spec.global = {size};
    spec.local = WholeBox(spec.global);
    spec.init = Init::Function([values](RngKey, int64_t i) { return values[i]; });
    spec.units = {0};
    parameters.Declare(spec);
  }

  std::vector<double> Values(int i) const { return parameters.parameters()[i]->owned.ToVector(); }

  // B (y - A x)
  std::vector<double> LowerGradient(const std::vector<double>& y) const {
    const std::vector<double> x = Values(0);
    std::vector<double> residual(kY), result(kY, 0.0);
    for (int i = 0; i < kY; ++i) residual[i] = y[i] - kA[i][0] * x[0] - kA[i][1] * x[1];
    for (int i = 0; i < kY; ++i) {
      for (int j = 0; j < kY; ++j) result[i] += kB[i][j] * residual[j];
    }
    return result;
  }

  LocalPasses Passes() {
    const auto gradient = [this](int batch, bool) -> StatusOr<std::vector<CompletedJob>> {
      ++num_gradients;
      const std::vector<double> x = Values(0), y = Values(1);
      const std::vector<double> lower = LowerGradient(y);
      double* gx = gradients.of(0).data<double>();
      double* gy = gradients.of(1).data<double>();
      for (int j = 0; j < kX; ++j) {
        gx[j] = batch == 1 ? kRho * x[j] : 0;
        for (int i = 0; i < kY && batch == 0; ++i) gx[j] -= kA[i][j] * lower[i];
        gx[j] *= kCount;
      }
      for (int i = 0; i < kY; ++i) gy[i] = kCount * (batch == 1 ? y[i] - kC[i] : lower[i]);
      return std::vector<CompletedJob>{{0, &gradients, {2.0 * batch, kCount, 0}}};
    };
    return {parameters, gradient, [] { return absl::OkStatus(); }};
  }
};

TEST(BilevelStepTest, TheHyperGradientOfQuadratics) {
  for (const int lower_steps : {0, 1, 3}) {
    Problem problem;
    auto step = MakeLocalStep("bilevel", {{"upper", "upper.*"},
                                          {"lower_steps", absl::StrCat(lower_steps)},
                                          {"lower_learning_rate", "0.4"},
                                          {"terms", "200"},
                                          {"series_rate", "0.7"}});
    ASSERT_TRUE(step.ok()) << step.status();
    (*step)->Start(problem.parameters);
    const std::vector<double> x = problem.Values(0), y0 = problem.Values(1);
    const auto jobs = (*step)->Run(problem.Passes());
    ASSERT_TRUE(jobs.ok()) << jobs.status();

    std::vector<double> y = y0, moved(kY, 0.0);
    for (int k = 0; k < lower_steps; ++k) {
      const std::vector<double> gradient = problem.LowerGradient(y);
      for (int i = 0; i < kY; ++i) {
        moved[i] += gradient[i];
        y[i] = y0[i] - 0.4 * moved[i];
      }
    }
    const std::vector<double> gx = (*jobs)[0].gradients->of(0).ToVector();
    const std::vector<double> gy = (*jobs)[0].gradients->of(1).ToVector();
    for (int j = 0; j < kX; ++j) {
      double expected = kRho * x[j];
      for (int i = 0; i < kY; ++i) expected += kA[i][j] * (y[i] - kC[i]);
      EXPECT_NEAR(gx[j] / kCount, expected, 1e-9) << lower_steps << " " << j;
    }
    for (int i = 0; i < kY; ++i) EXPECT_NEAR(gy[i] / kCount, moved[i], 1e-12);
    EXPECT_EQ((*jobs)[0].loss.sum, 2);  // Of f.
    EXPECT_EQ(problem.Values(0), x);
    EXPECT_EQ(problem.Values(1), y0);
    EXPECT_EQ(problem.num_gradients, lower_steps + 1 + 2 * 200 + 2);
  }
}

TEST(BilevelStepTest, BothProblemsNeedParameters) {
  for (const char* upper : {"*", "nothing"}) {
    Problem problem;
    auto step = MakeLocalStep("bilevel", {{"upper", upper}});
    ASSERT_TRUE(step.ok());
    const Status status = CatchFailure([&] { (*step)->Start(problem.parameters); });
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << upper;
    EXPECT_NE(std::string(status.message()).find("local_step.upper"), std::string::npos);
  }
}

}  // namespace
}  // namespace trireme
