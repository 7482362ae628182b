#include "launch/layout_comparison.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace trireme {
namespace {

double LargestOf(absl::Span<const double> values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// A memory of what a codec lost is a difference of larger values, and as exact as those: of
// parameters, where there is an anchor, else of gradients.
double ScaleOfKept(const ReferenceStep& step, const std::string& name, const std::string& path) {
  const auto anchor = step.kept.find(absl::StrCat(name.substr(0, name.rfind('.')), ".anchor"));
  return LargestOf(anchor == step.kept.end() ? step.gradients.at(path) : anchor->second);
}

}  // namespace

void ForEachRow(const Tensor& output, const TokenLayout& layout,
                const std::function<void(Token token, std::vector<double> row)>& fn) {
  const std::vector<double> values = output.ToVector(), samples = layout.sample.ToVector(),
                            positions = layout.position.ToVector();
  const size_t n = samples.size(), width = n == 0 ? 0 : values.size() / n;
  for (size_t i = 0; i < n; ++i) {
    fn({static_cast<int64_t>(samples[i]), static_cast<int64_t>(positions[i])},
       std::vector<double>(values.begin() + i * width, values.begin() + (i + 1) * width));
  }
}

void LayoutComparison::Hidden(int64_t step, int unit, const Tensor& output,
                              const TokenLayout& layout) {
  const HiddenRows& rows = (*reference_)[step].hidden.at(unit);
  double largest = 0;
  for (const auto& [token, row] : rows) largest = std::max(largest, LargestOf(row));
  ForEachRow(output, layout, [&](Token token, const std::vector<double>& row) {
    const auto it = rows.find(token);
    // A token that one rank does not have differs in everything.
    const std::vector<double> nothing(row.size(), std::numeric_limits<double>::quiet_NaN());
    Compare(kHidden, {step, static_cast<int>(Phase::kForward), unit}, row,
            it == rows.end() ? nothing : it->second, largest,
            absl::StrCat("output of unit ", unit));
  });
}

Status LayoutComparison::Step(int64_t step, const StepReport& report, Trainer& trainer) {
  const ReferenceStep& expected = (*reference_)[step];
  Compare(kScalars, {step, static_cast<int>(Phase::kLoss), 0}, {report.loss}, {expected.loss},
          std::abs(expected.loss), "loss");
  Compare(kScalars, {step, static_cast<int>(Phase::kNorm), 0}, {report.grad_norm},
          {expected.grad_norm}, expected.grad_norm, "gradient norm");
  const auto& all = trainer.model().parameters().parameters();
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string& path = all[i]->spec.path;
    if (!all[i]->spec.frozen) {
      OfParameter(step, Phase::kBackward, kGradients, *all[i], trainer.gradients().of(i),
                  expected.gradients.at(path), absl::StrCat("gradient of ", path));
    }
    OfParameter(step, Phase::kUpdate, kWeights, *all[i], all[i]->owned, expected.weights.at(path),
                absl::StrCat("weight ", path));
  }
  RETURN_IF_ERROR(trainer.exchanges().Settle());
  for (const Exchanges::Part& part : trainer.exchanges().Parts()) {
    const Place place = {step, static_cast<int>(Phase::kExchange), part.parameter};
    const auto it = expected.kept.find(part.name);
    // What the reference does not keep differs in everything.
    const std::vector<double> nothing(part.global.numel(),
                                      std::numeric_limits<double>::quiet_NaN());
    const std::vector<double>& whole = it == expected.kept.end() ? nothing : it->second;
    double largest = LargestOf(whole);
    if (part.parameter >= 0) {
      largest = std::max(largest, ScaleOfKept(expected, part.name, all[part.parameter]->spec.path));
    }
    Part(kKept, place, part.global, part.local, part.data, whole, largest, part.name);
  }
  return absl::OkStatus();
}

void LayoutComparison::OfParameter(int64_t step, Phase phase, Kind kind, const Parameter& parameter,
                                   const Tensor& mine, const std::vector<double>& whole,
                                   const std::string& what) {
  // Backward meets the last units first.
  const Place place = {step, static_cast<int>(phase), -parameter.spec.units.back()};
  Part(kind, place, parameter.spec.global, parameter.owned_box, mine, whole, LargestOf(whole),
       what);
}

void LayoutComparison::Part(Kind kind, const Place& place, const Shape& global, const Box& box,
                            const Tensor& mine, const std::vector<double>& whole, double largest,
                            const std::string& what) {
  if (box.numel() == 0) return;
  std::vector<double> expected(box.numel());
  const BoxRuns runs(global, box.begin, box.size, WholeBox(box.size).begin, box.size);
  for (int64_t k = 0; k < runs.count(); ++k) {
    std::copy_n(whole.begin() + runs[k].source, runs.length(), expected.begin() + runs[k].dest);
  }
  Compare(kind, place, mine.ToVector(), expected, largest, what);
}

void LayoutComparison::Compare(Kind kind, const Place& place, absl::Span<const double> mine,
                               absl::Span<const double> expected, double largest,
                               const std::string& what) {
  const double scale = 1 / std::max(largest, std::numeric_limits<double>::min());
  double worst = mine.size() == expected.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(mine.size(), expected.size()); ++i) {
    const double distance = mine[i] == expected[i] ? 0 : std::abs(mine[i] - expected[i]) * scale;
    worst = std::isnan(distance) ? INFINITY : std::max(worst, distance);
    squares_[kind] += distance * distance;
  }
  counts_[kind] += static_cast<double>(mine.size());
  worst_ = std::max(worst_, worst);
  if (worst <= tolerance_ || place >= place_) return;
  constexpr const char* kPhases[] = {"forward",  "forward", "backward",
                                     "backward", "update",  "exchange"};
  place_ = place;
  first_ = absl::StrFormat("step %d, %s: %s is off by %.1e", std::get<0>(place) + 1,
                           kPhases[std::get<1>(place)], what, worst);
}

void LayoutComparison::Merge(const LayoutComparison& other) {
  MergeNumbers(other.ToNumbers(), other.first_);
}

std::vector<double> LayoutComparison::ToNumbers() const {
  std::vector<double> numbers = {worst_, static_cast<double>(std::get<0>(place_)),
                                 static_cast<double>(std::get<1>(place_)),
                                 static_cast<double>(std::get<2>(place_))};
  numbers.insert(numbers.end(), squares_.begin(), squares_.end());
  numbers.insert(numbers.end(), counts_.begin(), counts_.end());
  return numbers;
}

void LayoutComparison::MergeNumbers(absl::Span<const double> numbers, const std::string& first) {
  worst_ = std::max(worst_, numbers[0]);
  const Place place = {first.empty() ? INT64_MAX : static_cast<int64_t>(numbers[1]),
                       static_cast<int>(numbers[2]), static_cast<int>(numbers[3])};
  if (place < place_) {
    place_ = place;
    first_ = first;
  }
  for (int kind = 0; kind < kNumKinds; ++kind) {
    squares_[kind] += numbers[4 + kind];
    counts_[kind] += numbers[4 + kNumKinds + kind];
  }
}

double LayoutComparison::Distance(Kind kind) const {
  return std::sqrt(squares_[kind] / std::max(1.0, counts_[kind]));
}

}  // namespace trireme
