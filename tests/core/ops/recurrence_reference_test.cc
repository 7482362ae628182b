// The definitions of linear attention and of short convolutions against plain loops.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/ops/ops.h"
#include "tests/core/ops/recurrence_cases.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

struct HostResult {
  std::vector<double> out, final_state;
};

HostResult HostRecurrence(const RecurrenceCase& c, const std::vector<Tensor>& tensors) {
  std::vector<std::vector<double>> x;
  for (const Tensor& tensor : tensors) {
    x.push_back(tensor.defined() ? tensor.ToVector() : std::vector<double>());
  }
  const int64_t state_size = c.key * c.value;
  HostResult result;
  result.out.resize(c.n * c.h * c.value);
  for (size_t r = 0; r < c.runs.size(); ++r) {
    for (int64_t head = 0; head < c.h; ++head) {
      std::vector<double> s(state_size);
      if (c.initial) {
        const auto from = x[7].begin() + (r * c.h + head) * state_size;
        s.assign(from, from + state_size);
      }
      for (int64_t t = c.runs[r].begin; t < c.runs[r].end; ++t) {
        const int64_t key_row = (t * c.g + head / (c.h / c.g)) * c.key, row = t * c.h + head;
        const double *q = &x[0][key_row], *k = &x[1][key_row], *v = &x[2][row * c.value];
        const std::vector<double> before = s;
        for (int64_t i = 0; i < c.key; ++i) {
          double g = 0;
          if (c.decay == Decay::kConstant) g = x[3][head];
          if (c.decay == Decay::kScalar) g = x[3][row];
          if (c.decay == Decay::kChannel) g = x[3][row * c.key + i];
          for (int64_t j = 0; j < c.value; ++j) s[i * c.value + j] *= std::exp(g);
        }
        for (int64_t j = 0; j < c.value; ++j) {
          double read = 0, out = 0;
          for (int64_t i = 0; i < c.key; ++i) {
            if (c.rule == StateRule::kDelta) read += k[i] * s[i * c.value + j];
            if (c.rule == StateRule::kLowRank) read += x[5][key_row + i] * before[i * c.value + j];
          }
          for (int64_t i = 0; i < c.key; ++i) {
            double& element = s[i * c.value + j];
            if (c.rule == StateRule::kDelta) {
              element += x[4][row] * k[i] * (v[j] - read);
            } else {
              element += k[i] * v[j];
            }
            if (c.rule == StateRule::kLowRank) element += x[6][key_row + i] * read;
            out += q[i] * element;
          }
          result.out[row * c.value + j] = 0.6 * out;
        }
      }
      result.final_state.insert(result.final_state.end(), s.begin(), s.end());
    }
  }
  // Heads were the inner loop, as in [p, h, K, V].
  return result;
}

void ExpectNear(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], 1e-12 * (1 + std::abs(want[i]))) << "element " << i;
  }
}

TEST(RecurrenceReferenceTest, FollowsTheDefinition) {
  const auto device = MakeTestDevice();
  RecurrenceCase like;
  like.h = 4;
  like.g = 2;
  like.key = 3;
  like.value = 5;
  for (const bool initial : {false, true}) {
    like.initial = initial;
    for (const RecurrenceCase& c : EveryKind(WithLengths(like, {3, 0, 1, 9}))) {
      SCOPED_TRACE(c.name);
      const std::vector<Tensor> x = RecurrenceTensors(*device, c);
      const RecurrenceOutputs got = RunRecurrence(LinearRecurrenceReference, c, x);
      const HostResult want = HostRecurrence(c, x);
      ExpectNear(got.out.ToVector(), want.out);
      ExpectNear(got.final_state.ToVector(), want.final_state);
    }
  }
}

TEST(ShortConvReferenceTest, FollowsTheDefinition) {
  const auto device = MakeTestDevice();
  const int64_t n = 12, c = 3, w = 4;
  const std::vector<TokenRun> runs = {{8, 12}, {0, 1}, {3, 3}, {1, 6}};
  const Tensor x = RandomTensor(*device, {n, c}, 1), weight = RandomTensor(*device, {c, w}, 2);
  const Tensor bias = RandomTensor(*device, {c}, 3),
               history = RandomTensor(*device, {4, w - 1, c}, 4);
  const std::vector<double> xs = x.ToVector(), ws = weight.ToVector(), bs = bias.ToVector();
  const std::vector<double> hs = history.ToVector();
  std::vector<double> want(n * c);
  for (size_t r = 0; r < runs.size(); ++r) {
    for (int64_t t = runs[r].begin; t < runs[r].end; ++t) {
      for (int64_t i = 0; i < c; ++i) {
        double y = bs[i];
        for (int64_t j = 0; j < w; ++j) {
          const int64_t at = t - j;
          y += ws[i * w + w - 1 - j] *
               (at >= runs[r].begin ? xs[at * c + i]
                                    : hs[(r * (w - 1) + w - 1 + at - runs[r].begin) * c + i]);
        }
        want[t * c + i] = y;
      }
    }
  }
  ExpectNear(ShortConvReference(x, weight, bias, runs, history).ToVector(), want);
}

}  // namespace
}  // namespace trireme::testing
