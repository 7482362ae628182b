// Codes with one message a worker that decode from any n - s of them, given by the matrix of their
// coefficients.
//
// The weights of n workers that decode are a0 + y N: a0 one solution, N the left null space of the
// matrix (s rows). Those of stragglers S must vanish, which is a system of |S| <= s equations:
//   (N[:, S])' y = -a0[S]
// With a0 orthogonal to N and the shortest y, the weights are the shortest ones too.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "parallel/coding/gradient_code.h"
#include "parallel/coding/linear_algebra.h"

namespace trireme {

// A matrix (by worker and part) and what decodes it.
class CodeMatrix {
 public:
  explicit CodeMatrix(Matrix coefficients);

  const Matrix& coefficients() const { return coefficients_; }
  int num_tolerated() const { return null_space_.rows; }

  // By worker. FAILED_PRECONDITION when rounding errors have eaten the weights: the parts come out
  // with weights that are more than 1e-6 off.
  StatusOr<std::vector<double>> Weights(absl::Span<const uint64_t> arrived) const;
  // The largest noise amplification (see NoiseAmplification) of sets of s stragglers: of all when
  // they are few, else of n that stand together and of 300 drawn ones. Infinite when one of them
  // does not decode.
  double WorstNoise() const;

 private:
  Matrix coefficients_;
  std::vector<double> all_;  // a0.
  Matrix null_space_;        // N.
};

class LinearCode : public GradientCode {
 public:
  // Parts are of one size; `make` is asked for coefficients when the first one is used, by
  // whichever thread comes first.
  LinearCode(absl::string_view name, CodeShape shape, std::function<CodeMatrix()> make);

  Message MessageOf(int worker, int message) const override;
  double LoadOf(int worker, int message) const override;
  bool Decodes(absl::Span<const uint64_t> arrived) const override;
  StatusOr<Decoding> Decode(absl::Span<const uint64_t> arrived) const override;

 private:
  const CodeMatrix& matrix() const;

  const std::string name_;
  const std::function<CodeMatrix()> make_;
  mutable std::once_flag made_;
  mutable std::unique_ptr<CodeMatrix> matrix_;
};

// n parts, of which each worker has s + 1.
CodeShape CyclicShape(int num_workers, int s);

}  // namespace trireme
