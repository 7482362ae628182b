// Linear attention and short convolutions over runs of tokens.
#include <cmath>

#include "core/ops/ops.h"
#include "tests/core/ops/op_case.h"

namespace trireme::testing {
namespace {

// Two tokens, none, the others but one.
std::vector<TokenRun> Runs(int64_t n) { return {{0, 2}, {2, 2}, {3, n}}; }

constexpr double kScale = 0.5, kKeys = 0.4, kDecay = -0.3;

// Inputs: q, k, v, the decay by channel, then beta, or a and b. The output is that of the tokens.
Tensor Recurrence(StateRule rule, const Inputs& in) {
  RecurrenceInputs inputs;
  inputs.rule = rule;
  inputs.q = in[0];
  inputs.k = Mul(in[1], kKeys);
  inputs.v = in[2];
  inputs.log_decay = To(Mul(in[3], kDecay), AccumulationType(in[3].dtype()));
  if (rule == StateRule::kDelta) inputs.beta = in[4];
  if (rule == StateRule::kLowRank) {
    inputs.a = Mul(in[4], kKeys);
    inputs.b = Mul(in[5], kKeys);
  }
  inputs.scale = kScale;
  return LinearRecurrence(inputs, Runs(in[0].dim(0))).out;
}

HostTensor RecurrenceOf(StateRule rule, const std::vector<HostTensor>& in) {
  const Shape& keys = in[0].shape;
  const int64_t n = keys[0], g = keys[1], key = keys[2], h = in[2].shape[1];
  const int64_t value = in[2].shape[2];
  HostTensor out = HostZeros(in[2].shape);
  for (const TokenRun& run : Runs(n)) {
    for (int64_t head = 0; head < h; ++head) {
      std::vector<double> s(key * value);
      for (int64_t t = run.begin; t < run.end; ++t) {
        const int64_t row = t * h + head;
        const auto of_key = [&](const HostTensor& x, int64_t i) {
          return x.at((t * g + head / (h / g)) * key + i);
        };
        for (int64_t j = 0; j < value; ++j) {
          double read = 0, sum = 0;
          for (int64_t i = 0; i < key; ++i) {
            double& state = s[i * value + j];
            if (rule == StateRule::kLowRank) read += kKeys * of_key(in[4], i) * state;
            state *= std::exp(kDecay * in[3].at(row * key + i));
            if (rule == StateRule::kDelta) read += kKeys * of_key(in[1], i) * state;
          }
          double v = in[2].at(row * value + j);
          if (rule == StateRule::kDelta) v = in[4].at(row) * (v - read);
          for (int64_t i = 0; i < key; ++i) {
            double& state = s[i * value + j];
            state += kKeys * of_key(in[1], i) * v;
            if (rule == StateRule::kLowRank) state += kKeys * of_key(in[5], i) * read;
            sum += of_key(in[0], i) * state;
          }
          out.at(row * value + j) = kScale * sum;
        }
      }
    }
  }
  return out;
}

OpCase RecurrenceCase(const std::string& name, StateRule rule) {
  const auto inputs = [rule](int64_t n, int64_t g, int64_t h, int64_t key, int64_t value) {
    const Shape keys = {n, g, key};
    std::vector<InputSpec> specs = {
        {keys}, {keys}, {{n, h, value}}, {{n, h, key}, InputSpec::kPositive}};
    if (rule == StateRule::kDelta) specs.push_back({{n, h}, InputSpec::kPositive});
    if (rule == StateRule::kLowRank) specs.insert(specs.end(), {{keys}, {keys}});
    return specs;
  };
  return {"linear_recurrence_" + name, [rule](const Inputs& in) { return Recurrence(rule, in); },
          inputs(6, 1, 2, 2, 3),
          [rule](const std::vector<HostTensor>& in) { return RecurrenceOf(rule, in); },
          inputs(90, 2, 4, 5, 7)};
}

Tensor Conv(const Inputs& in) { return ShortConv(in[0], in[1], in[2], Runs(in[0].dim(0))); }

HostTensor ConvOf(const std::vector<HostTensor>& in) {
  HostTensor y = HostZeros(in[0].shape);
  const int64_t w = in[1].shape[1];
  for (const TokenRun& run : Runs(y.shape[0])) {
    for (int64_t t = run.begin; t < run.end; ++t) {
      for (int64_t c = 0; c < y.shape[1]; ++c) {
        y.at(t, c) = in[2].at(c);
        for (int64_t j = 0; j < w && t - j >= run.begin; ++j) {
          y.at(t, c) += in[1].at(c, w - 1 - j) * in[0].at(t - j, c);
        }
      }
    }
  }
  return y;
}

}  // namespace

std::vector<OpCase> TokenRunCases() {
  return {
      RecurrenceCase("diagonal", StateRule::kDiagonal),
      RecurrenceCase("delta", StateRule::kDelta),
      RecurrenceCase("low_rank", StateRule::kLowRank),
      {"short_conv", Conv, {{{7, 3}}, {{3, 4}}, {{3}}}, ConvOf, {{{400, 70}}, {{70, 4}}, {{70}}}}};
}

}  // namespace trireme::testing
