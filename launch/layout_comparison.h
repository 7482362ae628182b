// What a rank of a layout finds when it compares itself with the reference: a run on one rank, or
// its replica in a run of replicas of one rank each.
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

// A step of the reference: whole tensors, by unit, parameter or name of what exchanges keep.
struct ReferenceStep {
  std::map<int, HiddenRows> hidden;
  double loss = 0, grad_norm = 0;
  std::map<std::string, std::vector<double>> gradients, weights, kept;
};

// The rows of a unit's output on this rank, each with its token.
void ForEachRow(const Tensor& output, const TokenLayout& layout,
                const std::function<void(Token token, std::vector<double> row)>& fn);

class LayoutComparison {
 public:
  enum Kind { kHidden, kScalars, kGradients, kWeights, kKept, kNumKinds };

  // Differences above `tolerance`, relative to the largest value of a tensor, are noted.
  LayoutComparison(const std::vector<ReferenceStep>& reference, double tolerance)
      : reference_(&reference), tolerance_(tolerance) {}

  void Hidden(int64_t step, int unit, const Tensor& output, const TokenLayout& layout);
  // Waits for exchanges that are on their way.
  Status Step(int64_t step, const StepReport& report, Trainer& trainer);

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
  enum class Phase { kForward, kLoss, kBackward, kNorm, kUpdate, kExchange };
  // Step, phase, and the order in it.
  using Place = std::tuple<int64_t, int, int>;

  void OfParameter(int64_t step, Phase phase, Kind kind, const Parameter& parameter,
                   const Tensor& mine, const std::vector<double>& whole, const std::string& what);
  // `mine`: the elements in `box` of a tensor.
  void Part(Kind kind, const Place& place, const Shape& global, const Box& box, const Tensor& mine,
            const std::vector<double>& whole, double largest, const std::string& what);
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
