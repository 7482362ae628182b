// Normalizations, softmax, rotary embedding, dropout.
#include <cmath>

#include "core/base/rng.h"
#include "core/ops/ops.h"
#include "tests/core/ops/op_case.h"

namespace trireme::testing {
namespace {

constexpr double kEpsilon = 1e-3;
constexpr double kTheta = 100;
constexpr double kRate = 0.3;
const RngKey kKey = MakeRngKey(1, "dropout");

HostTensor RmsNormOf(const std::vector<HostTensor>& in) {
  HostTensor y = in[0];
  const int64_t c = y.shape[-1];
  for (int64_t r = 0; r * c < y.shape.numel(); ++r) {
    double squares = 0;
    for (int64_t i = 0; i < c; ++i) squares += std::pow(in[0].values[r * c + i], 2);
    for (int64_t i = 0; i < c; ++i) {
      y.values[r * c + i] *= in[1].values[i] / std::sqrt(squares / c + kEpsilon);
    }
  }
  return y;
}

HostTensor LayerNormOf(const std::vector<HostTensor>& in) {
  HostTensor y = in[0];
  const int64_t c = y.shape[-1];
  for (int64_t r = 0; r * c < y.shape.numel(); ++r) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < c; ++i) mean += in[0].values[r * c + i] / c;
    for (int64_t i = 0; i < c; ++i) variance += std::pow(in[0].values[r * c + i] - mean, 2) / c;
    for (int64_t i = 0; i < c; ++i) {
      double& value = y.values[r * c + i];
      value = (value - mean) / std::sqrt(variance + kEpsilon) * in[1].values[i];
      if (in.size() > 2) value += in[2].values[i];
    }
  }
  return y;
}

// Over the columns of a matrix, or down its rows.
Reference SoftmaxOf(bool down, bool log) {
  return [=](const std::vector<HostTensor>& in) {
    HostTensor y = in[0];
    for (int64_t i = 0; i < y.shape[0]; ++i) {
      for (int64_t j = 0; j < y.shape[1]; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < y.shape[down ? 0 : 1]; ++k) {
          sum += std::exp(down ? in[0].at(k, j) : in[0].at(i, k));
        }
        y.at(i, j) = log ? in[0].at(i, j) - std::log(sum) : std::exp(in[0].at(i, j)) / sum;
      }
    }
    return y;
  };
}

HostTensor RotaryOf(const std::vector<HostTensor>& in) {
  HostTensor y = in[0];
  const int64_t h = y.shape[1], d = y.shape[2];
  for (int64_t t = 0; t < y.shape[0]; ++t) {
    for (int64_t k = 0; k < h * d; ++k) {
      const int64_t head = k / d, i = k % d;
      const double angle = in[1].at(t) * std::pow(kTheta, -2.0 * (i % (d / 2)) / d);
      const auto x = [&](int64_t j) { return in[0].values[(t * h + head) * d + j]; };
      y.values[t * h * d + k] = i < d / 2 ? x(i) * std::cos(angle) - x(i + d / 2) * std::sin(angle)
                                          : x(i) * std::cos(angle) + x(i - d / 2) * std::sin(angle);
    }
  }
  return y;
}

Tensor DropoutRagged(const Inputs& in) {
  return Dropout(in[0], kRate, kKey, RaggedLayout(in[0].device(), in[0].dim(0)));
}

HostTensor DropoutOf(const std::vector<HostTensor>& in) {
  HostTensor y = in[0];
  const int64_t n = y.shape[0], first = n / 3;
  for (int64_t t = 0; t < n; ++t) {
    const uint64_t sample = t < first ? 3 : 5, position = t < first ? 5 + t : t - first;
    const int64_t channels = y.shape.numel() / n;
    for (int64_t k = 0; k < channels; ++k) {
      const uint32_t bits = Philox(kKey, position << 32 | (k / 4), sample)[k % 4];
      y.values[t * channels + k] *= UniformFromBits(bits) < kRate ? 0 : 1 / (1 - kRate);
    }
  }
  return y;
}

}  // namespace

std::vector<OpCase> LayerCases() {
  const auto rms_norm = [](const Inputs& in) { return RmsNorm(in[0], in[1], kEpsilon); };
  const auto rotary = [](const Inputs& in) { return Rotary(in[0], in[1], kTheta); };
  constexpr auto kIndex = InputSpec::kIndex;
  return {
      {"rms_norm", rms_norm, {{{3, 5}}, {{5}}}, RmsNormOf, {{{700, 65}}, {{65}}}},
      {"rms_norm_wide", rms_norm, {{{2, 2, 4}}, {{4}}}, RmsNormOf, {{{300, 2100}}, {{2100}}}},
      {"rms_norm_no_rows", rms_norm, {{{0, 5}}, {{5}}}, RmsNormOf},
      {"rms_norm_one_channel", rms_norm, {{{3, 1}}, {{1}}}, RmsNormOf},
      {"rms_norm_of_computed_gain",
       [](const Inputs& in) { return RmsNorm(in[0], Add(in[1], 1.0), kEpsilon); },
       {{{3, 5}}, {{5}}},
       [](std::vector<HostTensor> in) {
         for (double& gain : in[1].values) gain += 1;
         return RmsNormOf(in);
       }},
      {"layer_norm",
       [](const Inputs& in) { return LayerNorm(in[0], in[1], in[2], kEpsilon); },
       {{{3, 5}}, {{5}}, {{5}}},
       LayerNormOf,
       {{{700, 65}}, {{65}}, {{65}}}},
      {"layer_norm_of_computed_bias",
       [](const Inputs& in) {
         return LayerNorm(in[0], Mul(in[1], 1.0), Mul(in[2], 1.0), kEpsilon);
       },
       {{{3, 5}}, {{5}}, {{5}}},
       LayerNormOf},
      {"layer_norm_no_bias",
       [](const Inputs& in) { return LayerNorm(in[0], in[1], Tensor(), kEpsilon); },
       {{{2, 2, 4}}, {{4}}},
       LayerNormOf,
       {{{700, 65}}, {{65}}}},
      {"softmax",
       [](const Inputs& in) { return Softmax(in[0]); },
       {{{3, 5}}},
       SoftmaxOf(false, false),
       {{{700, 65}}}},
      {"softmax_down",
       [](const Inputs& in) { return Softmax(in[0], 0); },
       {{{3, 5}}},
       SoftmaxOf(true, false),
       {{{70, 650}}}},
      {"log_softmax",
       [](const Inputs& in) { return LogSoftmax(in[0], 1); },
       {{{3, 5}}},
       SoftmaxOf(false, true),
       {{{700, 65}}}},
      {"log_softmax_down",
       [](const Inputs& in) { return LogSoftmax(in[0], -2); },
       {{{3, 5}}},
       SoftmaxOf(true, true)},
      {"rotary",
       rotary,
       {{{4, 2, 6}}, {{4}, kIndex, 1000}},
       RotaryOf,
       {{{300, 3, 34}}, {{300}, kIndex, 100000}}},
      {"rotary_no_tokens", rotary, {{{0, 2, 6}}, {{0}, kIndex, 9}}, RotaryOf},
      {"dropout", DropoutRagged, {{{5, 7}}}, DropoutOf, {{{100, 2, 300}}}},
      {"dropout_more_channels", DropoutRagged, {{{2, 3, 100}}}, DropoutOf},
  };
}

}  // namespace trireme::testing
