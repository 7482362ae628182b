// The kernels of linear attention against its definition.
#include "core/ops/recurrence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/autograd/backward.h"
#include "core/ops/ops.h"
#include "tests/core/ops/recurrence_cases.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

// The outputs, then the gradient of each input that the case has, from random gradients of both.
struct Results {
  std::vector<std::string> names;
  std::vector<Tensor> tensors;
};

Results RunBothWays(RecurrenceFn fn, const RecurrenceCase& c, std::vector<Tensor> x) {
  constexpr const char* kNames[] = {"dq",    "dk", "dv", "dlog_decay",
                                    "dbeta", "da", "db", "dinitial"};
  for (Tensor& tensor : x) {
    if (tensor.defined()) tensor = tensor.Detach().set_requires_grad();
  }
  const RecurrenceOutputs y = RunRecurrence(fn, c, x);
  Results results = {{"out", "final_state"}, {y.out, y.final_state}};
  const auto weigh = [](const Tensor& t, uint64_t seed) {
    return Sum(
        Mul(t, RandomTensor(t.device(), t.shape(), seed, 1, DType::kBF16).CopyTo(t.dtype())));
  };
  Add(To(weigh(y.out, 11), y.final_state.dtype()), weigh(y.final_state, 12)).Backward();
  for (size_t i = 0; i < x.size(); ++i) {
    if (!x[i].defined()) continue;
    results.names.push_back(kNames[i]);
    results.tensors.push_back(x[i].grad());
  }
  return results;
}

void ExpectNear(const Results& got, const Results& want, double tolerance) {
  ASSERT_EQ(got.names, want.names);
  for (size_t k = 0; k < got.names.size(); ++k) {
    ASSERT_EQ(got.tensors[k].shape(), want.tensors[k].shape()) << got.names[k];
    const std::vector<double> a = got.tensors[k].ToVector(), b = want.tensors[k].ToVector();
    double scale = 1;
    for (const double x : b) scale = std::max(scale, std::abs(x));
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_NEAR(a[i], b[i], tolerance * scale) << got.names[k] << " element " << i;
    }
  }
}

void ExpectEqualsItsDefinition(const RecurrenceCase& like) {
  const auto device = MakeTestDevice({.num_threads = 2});
  for (const RecurrenceCase& c : EveryKind(like)) {
    SCOPED_TRACE(c.name);
    const std::vector<Tensor> x = RecurrenceTensors(*device, c);
    ExpectNear(RunBothWays(LinearRecurrence, c, x), RunBothWays(LinearRecurrenceReference, c, x),
               1e-10);
  }
}

RecurrenceCase Shaped(int64_t h, int64_t g, int64_t key, int64_t value, bool initial) {
  RecurrenceCase c;
  c.h = h;
  c.g = g;
  c.key = key;
  c.value = value;
  c.initial = initial;
  return c;
}

TEST(RecurrenceTest, EqualsItsDefinition) {
  ExpectEqualsItsDefinition(
      WithLengths(Shaped(2, 2, 5, 7, true), {1, 2, 0, 15, 16, 17, 63, 64, 65}));
}

TEST(RecurrenceTest, EqualsItsDefinitionOverSeveralChunks) {
  ExpectEqualsItsDefinition(WithLengths(Shaped(1, 1, 4, 3, false), {130, 3}));
}

TEST(RecurrenceTest, EqualsItsDefinitionWithGroupedHeads) {
  ExpectEqualsItsDefinition(WithLengths(Shaped(4, 2, 3, 2, true), {9, 0, 18}));
  ExpectEqualsItsDefinition(WithLengths(Shaped(3, 1, 17, 33, true), {20}));
}

}  // namespace
}  // namespace trireme::testing
