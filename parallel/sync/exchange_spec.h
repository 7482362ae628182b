// What one exchange between replicas is made of: a row of choices, as plain data. A method of the
// literature is a list of such rows, never a class.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "core/base/component.h"
#include "core/base/status.h"

namespace trireme {

enum class ExchangePoint : uint8_t {
  kGradient,    // The gradient, before the optimizer sees it.
  kMomentum,    // A moving average of gradients, likewise.
  kParameters,  // After the update; or a state of the optimizer in their place.
  kDifference,  // Of the parameters from an anchor that all replicas share.
};

// What becomes of what a codec loses.
enum class ExchangeMemory : uint8_t {
  kNone,
  kErrorFeedback,  // It is sent with the next values (Seide et al. 2014).
  kDifference,     // The codec sees the change since the last values (EF21, Richtarik et al. 2021).
};

struct ExchangeSpec {
  ExchangePoint point = ExchangePoint::kGradient;
  std::string pattern = "*";  // Of parameter paths.
  // Of the optimizer. kParameters: in the parameters' place; kMomentum: where the average lives.
  std::string state;
  ComponentConfig rule = {"every", {{"period", "1"}}, {}};
  ComponentConfig codec = {"identity", {}, {}};
  ComponentConfig mixer = {"all_reduce", {}, {}};
  ComponentConfig outer = {"average", {}, {}};  // kDifference.
  ExchangeMemory memory = ExchangeMemory::kNone;
  double memory_decay = 1;
  bool token_weights = false;   // Replicas weigh what their labels count; else `weights`,
  std::vector<double> weights;  // one for each replica; empty: all alike.
  double momentum = 0.9;        // kMomentum: the decay of the average.
  int64_t fragments = 1, delay = 0;
  double keep_local = 0;
  int64_t from_step = 0, until_step = std::numeric_limits<int64_t>::max();

  bool is_of_gradients() const {
    return point == ExchangePoint::kGradient || point == ExchangePoint::kMomentum;
  }
  bool IsActive(int64_t step) const { return from_step <= step && step < until_step; }
  // Whether nothing but gradients, as they are, is added up over all replicas: then their buckets
  // are reduced while backward runs.
  bool IsPlainGradient() const;
};

// Data parallelism.
ExchangeSpec PlainGradientExchange();

StatusOr<ExchangePoint> ParseExchangePoint(absl::string_view name);
StatusOr<ExchangeMemory> ParseExchangeMemory(absl::string_view name);
const char* ExchangePointName(ExchangePoint point);

// INVALID_ARGUMENT for choices that make no sense together, in words that begin with the field:
// "rule: gradients are exchanged at every step ...".
Status CheckExchange(const ExchangeSpec& spec, int num_replicas);

// Whether rows[row] has each parameter: its pattern matches, and that of no row before it does
// which exchanges the same (gradients, parameters, a state) at some of its steps.
std::vector<bool> ParametersOf(absl::Span<const ExchangeSpec> rows, int row,
                               absl::Span<const std::string> paths);
// Whether rows[row] adds up the gradients of every parameter as they are: no row before it has some
// of them.
bool AddsAllGradientsUp(absl::Span<const ExchangeSpec> rows, int row);

}  // namespace trireme
