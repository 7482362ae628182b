// What a rank of a layout finds when it compares itself with a run on one rank.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/batch.h"
#include "launch/trainer.h"

namespace trireme {

// Rows of a hidden state, by the (sample, position) of their tokens.
using Token = std::pair<int64_t, int64_t>;
using HiddenRows = std::map<Token, std::vector<double>>;

// A step of the run on one rank: whole tensors, by unit or parameter.
struct ReferenceStep {
  std::map<int, HiddenRows> hidden;
  double loss = 0, grad_norm = 0;
  std::map<std::string, std::vector<double>> gradients, weights;
};

// The rows of a unit's output on this rank, each with its token.
void ForEachRow(const Tensor& output, const TokenLayout& layout,
                const std::function<void(Token token, std::vector<double> row)>& fn);

class LayoutComparison {
 public:
  enum Kind { kHidden, kScalars, kGradients, kWeights, kNumKinds };

  // Differences above `tolerance`, relative to the largest value of a tensor, are noted.
  LayoutComparison(const std::vector<ReferenceStep>& reference, double tolerance)
      : reference_(&reference), tolerance_(tolerance) {}

  void Hidden(int64_t step, int unit, const Tensor& output, const TokenLayout& layout);
  void Step(int64_t step, const StepReport& report, Trainer& trainer);

  // What other ranks found.
  void Merge(const LayoutComparison& other);
  std::vector<double> ToNumbers() const;  // All but the text of first().
  void MergeNumbers(absl::Span<const double> numbers, const std::string& first);

  double worst() const { return worst_; }
  // The first difference in the order of computation: "step 1, backward: gradient of ... is off by
  // 1e-3".
  const std::string& first() const { return first_; }
  // Root mean square of the relative differences of all elements of a kind.
  double Distance(Kind kind) const;

 private:
  enum class Phase { kForward, kLoss, kBackward, kNorm, kUpdate };
  // Step, phase, and the order in it.
  using Place = std::tuple<int64_t, int, int>;

  void Part(int64_t step, Phase phase, Kind kind, const Parameter& parameter, const Tensor& mine,
            const std::vector<double>& whole, const std::string& what);
  // Elements of one tensor; `largest` is that of the whole.
  void Compare(Kind kind, const Place& place, absl::Span<const double> mine,
               absl::Span<const double> expected, double largest, const std::string& what);

  const std::vector<ReferenceStep>* reference_;
  double tolerance_;
  double worst_ = 0;
  Place place_ = {INT64_MAX, 0, 0};
  std::string first_;
  std::array<double, kNumKinds> squares_ = {}, counts_ = {};
};

}  // namespace trireme
