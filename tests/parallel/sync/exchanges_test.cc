// Exchanges at the ends of rounds, of replicas that walk along constant gradients: what DiLoCo and
// its streaming form come to is known in closed form.
#include "parallel/sync/exchanges.h"

#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using testing::OnRanks;
using testing::RunOn;
using testing::TestWorld;

constexpr int64_t kSteps = 30;

double LearningRate(int64_t step) { return 0.1 / static_cast<double>(1 + step); }
// Of replica k, for element i of parameter p.
double Gradient(int k, int p, int64_t i) { return std::sin(1.0 + k + 3 * p + 0.7 * i); }

const std::vector<Shape>& Shapes() {
  static const std::vector<Shape> shapes = {{3}, {2, 2}, {5}, {1}};
  return shapes;
}

// A parameter a unit, all starting from 0.5.
void Declare(ParameterSet& parameters) {
  for (size_t p = 0; p < Shapes().size(); ++p) {
    ParamSpec spec;
    spec.path = absl::StrCat("layers.", p, ".w");
    spec.global = Shapes()[p];
    spec.local = WholeBox(Shapes()[p]);
    spec.init = Init::Constant(0.5);
    spec.units = {static_cast<int>(p)};
    parameters.Declare(spec);
  }
}

ExchangesContext ContextOf(const ParameterSet& parameters, Device& device, Communicator& world) {
  RunTimes times;
  times.num_steps = kSteps;
  times.peak_learning_rate = LearningRate(0);
  times.learning_rate = LearningRate;
  return {parameters, device,  world,
          nullptr,    nullptr, 0,
          1,          times,   [](int, const std::string&) {
            return Tensor(); }};
}

// Parameters of every replica after kSteps steps, [k][p][i]; checks that they are equal at the end.
using Values = std::vector<std::vector<double>>;  // By parameter.
Values Walk(const ExchangeSpec& spec, int num_replicas) {
  std::vector<Values> ends(num_replicas);
  OnRanks({TestWorld::kLocal, num_replicas}, {},
          [&](Device& device, Communicator& world) -> Status {
            ParameterSet parameters;
            Declare(parameters);
            RETURN_IF_ERROR(parameters.Materialize(device, DType::kF64, 1));
            ASSIGN_OR_RETURN(const auto exchanges,
                             Exchanges::Create({spec}, ContextOf(parameters, device, world)));
            for (int64_t step = 0; step < kSteps; ++step) {
              for (size_t p = 0; p < Shapes().size(); ++p) {
                double* values = parameters.parameters()[p]->owned.data<double>();
                for (int64_t i = 0; i < Shapes()[p].numel(); ++i) {
                  values[i] -= LearningRate(step) * Gradient(world.rank(), p, i);
                }
              }
              RETURN_IF_ERROR(exchanges->AfterUpdate(step + 1, {1, 1, 1}).status());
            }
            EXPECT_TRUE(exchanges->in_agreement());
            for (const auto& parameter : parameters.parameters()) {
              ends[world.rank()].push_back(parameter->owned.ToVector());
            }
            return absl::OkStatus();
          });
  for (const Values& end : ends) EXPECT_EQ(end, ends[0]);
  return ends[0];
}

ExchangeSpec DiLoCo(int64_t period, double momentum) {
  ExchangeSpec spec;
  spec.point = ExchangePoint::kDifference;
  spec.rule.params["period"] = absl::StrCat(period);
  spec.outer = {"sgd", {{"learning_rate", "0.7"}, {"momentum", absl::StrCat(momentum)}}, {}};
  return spec;
}

void ExpectNear(const Values& actual, const Values& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t p = 0; p < expected.size(); ++p) {
    for (size_t i = 0; i < expected[p].size(); ++i) {
      EXPECT_NEAR(actual[p][i], expected[p][i], 1e-13) << p << " " << i;
    }
  }
}

// Rounds r = 0, 1 ... have pseudo-gradients d_r = S_r g with S_r the learning rates of the round
// added up and g the mean gradient. With Nesterov's momentum d_r arrives
//   lr (1 + mu + mu^2 + ... + mu^(R - r)) times in what the anchor has moved by after round R.
TEST(ExchangesTest, DiLoCoOfConstantGradients) {
  for (const int replicas : {1, 2, 3, 4}) {
    const double mu = 0.9;
    const int64_t period = 6, rounds = kSteps / period;
    double factor = 0;
    for (int64_t r = 0; r < rounds; ++r) {
      double sum = 0;
      for (int64_t step = r * period; step < (r + 1) * period; ++step) sum += LearningRate(step);
      factor += 0.7 * sum * (1 - std::pow(mu, rounds - r + 1)) / (1 - mu);
    }
    Values expected;
    for (size_t p = 0; p < Shapes().size(); ++p) {
      expected.emplace_back();
      for (int64_t i = 0; i < Shapes()[p].numel(); ++i) {
        double mean = 0;
        for (int k = 0; k < replicas; ++k) mean += Gradient(k, p, i) / replicas;
        expected[p].push_back(0.5 - factor * mean);
      }
    }
    ExpectNear(Walk(DiLoCo(period, mu), replicas), expected);
  }
}

// Streaming DiLoCo written out for one element of one fragment: sent at times of its own, applied
// later, merged with what the replica has by then; at the end of the run at once and whole.
double StreamingEnd(const ExchangeSpec& spec, int64_t period, double mu, int replicas, int p,
                    int64_t i) {
  std::vector<double> x(replicas, 0.5);
  double anchor = 0.5, momentum = 0, mean = 0;
  const int64_t fragment = p % spec.fragments;
  int64_t due = period * (fragment + 1) / spec.fragments, apply = -1;
  for (int64_t steps = 1; steps <= kSteps; ++steps) {
    for (int k = 0; k < replicas; ++k) x[k] -= LearningRate(steps - 1) * Gradient(k, p, i);
    const bool last = steps == kSteps;
    if (steps == due || last) {
      mean = 0;
      for (int k = 0; k < replicas; ++k) mean += (anchor - x[k]) / replicas;
      due += period;
      apply = last ? steps : steps + spec.delay;
    }
    if (steps != apply) continue;
    momentum = mu * momentum + mean;
    anchor -= 0.7 * (mean + mu * momentum);
    const double keep = last ? 0 : spec.keep_local;
    for (double& value : x) value = keep * value + (1 - keep) * anchor;
  }
  return x[0];
}

TEST(ExchangesTest, FragmentsDelaysAndMerging) {
  const double mu = 0.8;
  const int64_t period = 8;  // Does not divide the run.
  for (const int64_t fragments : {1, 2, 4}) {
    for (const int64_t delay : {0, 1}) {
      for (const double keep : {0.0, 0.5, 1.0}) {
        ExchangeSpec spec = DiLoCo(period, mu);
        spec.fragments = fragments;
        spec.delay = delay;
        spec.keep_local = keep;
        ASSERT_TRUE(CheckExchange(spec, 3).ok());
        Values expected;
        for (size_t p = 0; p < Shapes().size(); ++p) {
          expected.emplace_back();
          for (int64_t i = 0; i < Shapes()[p].numel(); ++i) {
            expected[p].push_back(StreamingEnd(spec, period, mu, 3, p, i));
          }
        }
        SCOPED_TRACE(absl::StrCat(fragments, " fragments, delay ", delay, ", keep ", keep));
        ExpectNear(Walk(spec, 3), expected);
      }
    }
  }
}

// A replica that stops answering in the middle of a round ends the exchange of the others within
// the deadline, with a message that names it.
TEST(ExchangesTest, ASilentReplicaIsNamed) {
  CommOptions options;
  options.deadline = absl::Milliseconds(300);
  const Status status =
      RunOn({TestWorld::kLocal, 3}, options, [&](Device& device, Communicator& world) -> Status {
        ParameterSet parameters;
        Declare(parameters);
        RETURN_IF_ERROR(parameters.Materialize(device, DType::kF64, 1));
        ASSIGN_OR_RETURN(const auto exchanges,
                         Exchanges::Create({DiLoCo(4, 0)}, ContextOf(parameters, device, world)));
        for (int64_t step = 0; step < kSteps; ++step) {
          if (world.rank() == 1 && step == 6) {
            absl::SleepFor(absl::Seconds(2));
            return absl::OkStatus();
          }
          RETURN_IF_ERROR(exchanges->AfterUpdate(step + 1, {1, 1, 1}).status());
        }
        return absl::OkStatus();
      });
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_NE(std::string(status.message()).find("rank 1"), std::string::npos) << status;
}

}  // namespace
}  // namespace trireme
