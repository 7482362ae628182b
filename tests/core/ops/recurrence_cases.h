// Linear attention on small inputs: what recurrence_test.cc and its neighbours run.
#pragma once

#include <string>
#include <vector>

#include "core/ops/ops.h"

namespace trireme::testing {

enum class Decay { kNone, kConstant, kScalar, kChannel };

struct RecurrenceCase {
  std::string name;
  StateRule rule = StateRule::kDiagonal;
  Decay decay = Decay::kNone;
  int64_t n = 0, h = 1, g = 1, key = 4, value = 4;
  std::vector<TokenRun> runs;
  bool initial = true;
  double decay_size = 0.3;  // Log decays are about this large.
};

// Runs of these lengths with a row that no run covers behind every third of them.
RecurrenceCase WithLengths(RecurrenceCase c, const std::vector<int64_t>& lengths);

// Every rule with every decay.
std::vector<RecurrenceCase> EveryKind(const RecurrenceCase& like);

// q, k, v, log_decay, beta, a, b, initial: undefined where the case has none. Numbers for which
// states stay small, rounded to `rounded` first, so that two types see the same.
std::vector<Tensor> RecurrenceTensors(Device& device, const RecurrenceCase& c,
                                      DType dtype = DType::kF64, DType rounded = DType::kF64);

using RecurrenceFn = RecurrenceOutputs (*)(const RecurrenceInputs&, absl::Span<const TokenRun>,
                                           const Tensor&);
RecurrenceOutputs RunRecurrence(RecurrenceFn fn, const RecurrenceCase& c,
                                const std::vector<Tensor>& tensors);

}  // namespace trireme::testing
