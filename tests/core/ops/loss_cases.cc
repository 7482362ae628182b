#include <cmath>

#include "core/ops/ops.h"
#include "tests/core/ops/op_case.h"

namespace trireme::testing {
namespace {

HostTensor CrossEntropyOf(const std::vector<HostTensor>& in) {
  const HostTensor &logits = in[0], &labels = in[1];
  double loss = 0;
  for (int64_t i = 0; i < logits.shape[0]; ++i) {
    if (labels.at(i) == kIgnoredLabel) continue;
    double sum = 0;
    for (int64_t j = 0; j < logits.shape[1]; ++j) sum += std::exp(logits.at(i, j));
    loss += std::log(sum) - logits.at(i, static_cast<int64_t>(labels.at(i)));
  }
  return {{}, {loss}};
}

HostTensor LinearCrossEntropyOf(const std::vector<HostTensor>& in) {
  const HostTensor &x = in[0], &weight = in[1];
  HostTensor logits = HostZeros({x.shape[0], weight.shape[0]});
  for (int64_t i = 0; i < x.shape[0]; ++i) {
    for (int64_t j = 0; j < weight.shape[0]; ++j) {
      for (int64_t k = 0; k < x.shape[1]; ++k) logits.at(i, j) += x.at(i, k) * weight.at(j, k);
    }
  }
  return CrossEntropyOf({logits, in[2]});
}

OpCase LinearCase(const std::string& name, int64_t n, int64_t chunk_tokens) {
  constexpr auto kLabel = InputSpec::kLabel;
  return {"linear_cross_entropy_" + name,
          [=](const Inputs& in) { return LinearCrossEntropy(in[0], in[1], in[2], chunk_tokens); },
          {{{n, 3}}, {{4, 3}}, {{n}, kLabel, 4}},
          LinearCrossEntropyOf,
          {{{130, 24}}, {{200, 24}}, {{130}, kLabel, 200}}};
}

}  // namespace

std::vector<OpCase> LossCases() {
  constexpr auto kLabel = InputSpec::kLabel;
  const auto cross_entropy = [](const Inputs& in) { return CrossEntropy(in[0], in[1]); };
  return {
      {"cross_entropy",
       cross_entropy,
       {{{6, 5}}, {{6}, kLabel, 5}},
       CrossEntropyOf,
       {{{300, 257}}, {{300}, kLabel, 257}}},
      {"cross_entropy_no_tokens", cross_entropy, {{{0, 5}}, {{0}, kLabel, 5}}, CrossEntropyOf},
      {"cross_entropy_one_class", cross_entropy, {{{3, 1}}, {{3}, kLabel, 1}}, CrossEntropyOf},
      LinearCase("whole", 5, 0),
      LinearCase("chunks_of_2", 5, 2),
      LinearCase("chunks_of_1", 3, 1),
      LinearCase("no_tokens", 0, 2),
      {"linear_cross_entropy_of_computed_weight",
       [](const Inputs& in) { return LinearCrossEntropy(in[0], Mul(in[1], 1.0), in[2], 2); },
       {{{5, 3}}, {{4, 3}}, {{5}, kLabel, 4}},
       LinearCrossEntropyOf},
      {"linear_cross_entropy_scaled",
       [](const Inputs& in) { return Mul(LinearCrossEntropy(in[0], in[1], in[2], 2), 0.25); },
       {{{5, 3}}, {{4, 3}}, {{5}, kLabel, 4}},
       [](const std::vector<HostTensor>& in) {
         HostTensor loss = LinearCrossEntropyOf(in);
         loss.at(0) *= 0.25;
         return loss;
       }},
  };
}

}  // namespace trireme::testing
