#include "tests/core/ops/recurrence_cases.h"

#include <cmath>

#include "tests/testing/gradient_check.h"

namespace trireme::testing {

RecurrenceCase WithLengths(RecurrenceCase c, const std::vector<int64_t>& lengths) {
  c.n = 0;
  c.runs.clear();
  for (size_t i = 0; i < lengths.size(); ++i) {
    c.runs.push_back({c.n, c.n + lengths[i]});
    c.n += lengths[i] + (i % 3 == 0);
  }
  return c;
}

std::vector<RecurrenceCase> EveryKind(const RecurrenceCase& like) {
  std::vector<RecurrenceCase> cases;
  for (const auto& [rule, rule_name] : {std::pair(StateRule::kDiagonal, "diagonal"),
                                        {StateRule::kDelta, "delta"},
                                        {StateRule::kLowRank, "low_rank"}}) {
    for (const auto& [decay, decay_name] : {std::pair(Decay::kNone, "none"),
                                            {Decay::kConstant, "constant"},
                                            {Decay::kScalar, "scalar"},
                                            {Decay::kChannel, "channel"}}) {
      RecurrenceCase c = like;
      c.rule = rule;
      c.decay = decay;
      c.name = std::string(rule_name) + " " + decay_name + " " + like.name;
      cases.push_back(c);
    }
  }
  return cases;
}

std::vector<Tensor> RecurrenceTensors(Device& device, const RecurrenceCase& c, DType dtype,
                                      DType rounded) {
  const DType acc = AccumulationType(dtype);
  const double unit = 1 / std::sqrt(static_cast<double>(c.key));
  const auto normal = [&](const Shape& shape, uint64_t seed, double scale) {
    return RandomTensor(device, shape, seed, scale, rounded).CopyTo(dtype);
  };
  const Shape keys = {c.n, c.g, c.key}, values = {c.n, c.h, c.value};
  std::vector<Tensor> x(8);
  x[0] = normal(keys, 1, 1);
  x[1] = normal(keys, 2, c.rule == StateRule::kDelta ? unit : 0.5);
  x[2] = normal(values, 3, 1);
  if (c.decay != Decay::kNone) {
    const Shape shape = c.decay == Decay::kConstant ? Shape{c.h}
                        : c.decay == Decay::kScalar ? Shape{c.n, c.h}
                                                    : Shape{c.n, c.h, c.key};
    const Tensor size = Abs(RandomTensor(device, shape, 4, c.decay_size, DType::kF32));
    x[3] = Neg(size).CopyTo(acc);
  }
  if (c.rule == StateRule::kDelta) {
    x[4] = Sigmoid(RandomTensor(device, {c.n, c.h}, 5)).CopyTo(rounded).CopyTo(dtype);
  }
  if (c.rule == StateRule::kLowRank) {
    x[5] = normal(keys, 6, 0.6 * unit);
    x[6] = normal(keys, 7, 0.6 * unit);
  }
  if (c.initial) {
    const Shape shape = {static_cast<int64_t>(c.runs.size()), c.h, c.key, c.value};
    x[7] = RandomTensor(device, shape, 8, 1, DType::kF32).CopyTo(acc);
  }
  return x;
}

RecurrenceOutputs RunRecurrence(RecurrenceFn fn, const RecurrenceCase& c,
                                const std::vector<Tensor>& x) {
  return fn({c.rule, x[0], x[1], x[2], x[3], x[4], x[5], x[6], /*scale=*/0.6}, c.runs, x[7]);
}

}  // namespace trireme::testing
