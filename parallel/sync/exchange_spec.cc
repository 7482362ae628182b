#include "parallel/sync/exchange_spec.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/base/pattern.h"
#include "parallel/sync/codec.h"
#include "parallel/sync/mixer.h"
#include "parallel/sync/outer.h"

namespace trireme {
namespace {

struct PointName {
  ExchangePoint point;
  const char* name;
};
constexpr PointName kPoints[] = {{ExchangePoint::kGradient, "gradient"},
                                 {ExchangePoint::kMomentum, "momentum"},
                                 {ExchangePoint::kParameters, "parameters"},
                                 {ExchangePoint::kDifference, "difference"}};

struct MemoryName {
  ExchangeMemory memory;
  const char* name;
};
constexpr MemoryName kMemories[] = {{ExchangeMemory::kNone, "none"},
                                    {ExchangeMemory::kErrorFeedback, "error_feedback"},
                                    {ExchangeMemory::kDifference, "difference"}};

template <typename... Args>
Status Wrong(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

std::string Param(const ComponentConfig& component, const std::string& key) {
  const auto it = component.params.find(key);
  return it == component.params.end() ? "" : it->second;
}

bool StepsOverlap(const ExchangeSpec& a, const ExchangeSpec& b) {
  return a.from_step < b.until_step && b.from_step < a.until_step;
}

Status CheckWeights(const ExchangeSpec& spec, int num_replicas) {
  if (spec.weights.empty()) return absl::OkStatus();
  if (static_cast<int>(spec.weights.size()) != num_replicas) {
    return Wrong("weights: ", spec.weights.size(), " numbers for ", num_replicas, " replicas");
  }
  double sum = 0;
  for (const double weight : spec.weights) {
    if (weight < 0) return Wrong("weights: ", weight, " is negative");
    sum += weight;
  }
  return sum > 0 ? absl::OkStatus() : Wrong("weights: all are zero");
}

Status CheckFragments(const ExchangeSpec& spec) {
  if (spec.fragments < 1) return Wrong("fragments: ", spec.fragments, " is not positive");
  if (spec.delay < 0) return Wrong("delay: ", spec.delay, " is negative");
  if (!(spec.keep_local >= 0 && spec.keep_local <= 1)) {
    return Wrong("keep_local: ", spec.keep_local, " is outside [0, 1]");
  }
  if (spec.keep_local != 0 && spec.outer.name == "elastic") {
    return Wrong("keep_local: outer elastic says itself what a replica keeps");
  }
  if (spec.fragments == 1 && spec.delay == 0) return absl::OkStatus();
  int64_t period = 0;
  if (spec.rule.name != "every" || !ParseInt(Param(spec.rule, "period"), &period)) {
    return Wrong("rule: fragments and delay need rule every, got ", spec.rule.name);
  }
  if (period % spec.fragments != 0) {
    return Wrong("fragments: ", spec.fragments, " do not divide the period ", period);
  }
  if (spec.delay >= period / spec.fragments) {
    return Wrong("delay: ", spec.delay, " steps reach the next exchange, ", period / spec.fragments,
                 " steps later");
  }
  return absl::OkStatus();
}

// An outer momentum adds up differences, whose size changes with the period.
Status CheckOuterMomentum(const ExchangeSpec& spec, const Outer& outer) {
  if (outer.state_names().empty() || spec.rule.name == "every") return absl::OkStatus();
  if (Param(spec.outer, "scale") == "learning_rate_sum") return absl::OkStatus();
  return Wrong("outer: the momentum of ", spec.outer.name, " under rule ", spec.rule.name,
               " would mix rounds of different lengths; take sgd with scale learning_rate_sum, or "
               "rule every");
}

Status CheckComponents(const ExchangeSpec& spec, int num_replicas) {
  const auto codec = MakeCodec(spec.codec.name, spec.codec.params);
  if (!codec.ok()) return Annotate(codec.status(), "codec");
  const auto mixer = MakeMixer(spec.mixer.name, spec.mixer.params);
  if (!mixer.ok()) return Annotate(mixer.status(), "mixer");
  RETURN_IF_ERROR(Annotate((*mixer)->Check(**codec, num_replicas), "mixer"));
  const auto outer = MakeOuter(spec.outer.name, spec.outer.params);
  if (!outer.ok()) return Annotate(outer.status(), "outer");
  return CheckOuterMomentum(spec, **outer);
}

bool IsGossip(const ExchangeSpec& spec) {
  return spec.mixer.name == "gossip" || spec.mixer.name == "random_partner";
}

}  // namespace

bool ExchangeSpec::IsPlainGradient() const {
  return point == ExchangePoint::kGradient && codec.name == "identity" &&
         mixer.name == "all_reduce" && memory == ExchangeMemory::kNone && token_weights;
}

ExchangeSpec PlainGradientExchange() {
  ExchangeSpec spec;
  spec.token_weights = true;
  return spec;
}

StatusOr<ExchangePoint> ParseExchangePoint(absl::string_view name) {
  std::vector<std::string> known;
  for (const PointName& entry : kPoints) {
    if (name == entry.name) return entry.point;
    known.push_back(entry.name);
  }
  return absl::InvalidArgumentError(UnknownNameMessage("point", name, known));
}

StatusOr<ExchangeMemory> ParseExchangeMemory(absl::string_view name) {
  std::vector<std::string> known;
  for (const MemoryName& entry : kMemories) {
    if (name == entry.name) return entry.memory;
    known.push_back(entry.name);
  }
  return absl::InvalidArgumentError(UnknownNameMessage("memory", name, known));
}

const char* ExchangePointName(ExchangePoint point) { return kPoints[static_cast<int>(point)].name; }

Status CheckExchange(const ExchangeSpec& spec, int num_replicas) {
  const char* point = ExchangePointName(spec.point);
  if (spec.from_step < 0) return Wrong("from_step: ", spec.from_step, " is negative");
  if (spec.until_step <= spec.from_step) {
    return Wrong("until_step: ", spec.until_step, " is not after from_step ", spec.from_step);
  }
  RETURN_IF_ERROR(CheckWeights(spec, num_replicas));
  if (spec.is_of_gradients() && (spec.rule.name != "every" || Param(spec.rule, "period") != "1")) {
    return Wrong("rule: a ", point,
                 " is exchanged at every step; for rarer exchanges take point parameters or "
                 "difference");
  }
  if (spec.point != ExchangePoint::kDifference) {
    if (spec.outer.name != "average") {
      return Wrong("outer: ", spec.outer.name, " needs an anchor: point difference, not ", point);
    }
    if (spec.fragments != 1 || spec.delay != 0 || spec.keep_local != 0) {
      return Wrong("fragments, delay and keep_local are for point difference, not ", point);
    }
  }
  if (spec.point != ExchangePoint::kParameters && spec.point != ExchangePoint::kMomentum &&
      !spec.state.empty()) {
    return Wrong("state: ", spec.state, " is for point parameters or momentum, not ", point);
  }
  if (spec.point == ExchangePoint::kParameters &&
      (spec.codec.name != "identity" || spec.memory != ExchangeMemory::kNone)) {
    return Wrong("codec: ", spec.codec.name,
                 " would lose the parameters themselves; take point difference");
  }
  if (!(spec.momentum >= 0 && spec.momentum < 1)) {
    return Wrong("momentum: ", spec.momentum, " is outside [0, 1)");
  }
  if (!(spec.memory_decay >= 0 && spec.memory_decay <= 1)) {
    return Wrong("memory_decay: ", spec.memory_decay, " is outside [0, 1]");
  }
  // mean = sum_k w_k h_k has to stay true, and w_k divides the values.
  if (spec.memory == ExchangeMemory::kDifference && spec.token_weights) {
    return Wrong(
        "weights: memory difference needs the same ones in every round: equal, or a number ",
        "for each replica");
  }
  if (spec.memory == ExchangeMemory::kDifference &&
      std::count(spec.weights.begin(), spec.weights.end(), 0.0) > 0) {
    return Wrong("weights: memory difference has no use for a replica of weight 0");
  }
  if (IsGossip(spec) && spec.point != ExchangePoint::kParameters) {
    return Wrong("mixer: ", spec.mixer.name, " leaves replicas different, so that a ", point,
                 " has no mean; take point parameters");
  }
  if (IsGossip(spec) && (spec.token_weights || !spec.weights.empty())) {
    return Wrong("weights: ", spec.mixer.name, " weighs two replicas alike");
  }
  RETURN_IF_ERROR(CheckFragments(spec));
  return CheckComponents(spec, num_replicas);
}

std::vector<bool> ParametersOf(absl::Span<const ExchangeSpec> rows, int row,
                               absl::Span<const std::string> paths) {
  const ExchangeSpec& mine = rows[row];
  std::vector<bool> taken(paths.size());
  for (int r = 0; r <= row; ++r) {
    const ExchangeSpec& other = rows[r];
    // A moving average of gradients takes their place, wherever it lives.
    const bool same_object = other.is_of_gradients() == mine.is_of_gradients() &&
                             (mine.is_of_gradients() || other.state == mine.state);
    if (r < row && !(same_object && StepsOverlap(other, mine))) continue;
    for (size_t p = 0; p < paths.size(); ++p) {
      const bool matches = MatchesPattern(other.pattern, paths[p]);
      taken[p] = r < row ? taken[p] || matches : !taken[p] && matches;
    }
  }
  return taken;
}

bool AddsAllGradientsUp(absl::Span<const ExchangeSpec> rows, int row) {
  const ExchangeSpec& mine = rows[row];
  return mine.IsPlainGradient() && mine.pattern == "*" &&
         std::none_of(rows.begin(), rows.begin() + row, [&](const ExchangeSpec& other) {
           return other.is_of_gradients() && StepsOverlap(other, mine);
         });
}

}  // namespace trireme
