// Step sizes that the theory of EF21 allows for gradient descent on f = mean_i f_i, replica i
// sending C(grad f_i - g_i), when the gradients of f_i and f are L_i and L smooth and C contracts
// by alpha:
//
//   EF21:    1 / (L + L_QM xi),   L_QM = sqrt(mean L_i^2)
//   EF21-W:  1 / (L + L_AM xi),   L_AM = mean L_i
//   xi = sqrt(beta / theta) = (1 + sqrt(1 - alpha)) / alpha - 1,
//   theta = 1 - sqrt(1 - alpha),  beta = (1 - alpha) / (1 - sqrt(1 - alpha))
//
// EF21-W weights replica i by w_i = L_i / sum_j L_j and sends C(grad f_i / (K w_i) - g_i). Where
// C(c v) = c C(v), as of top_k, that is EF21 itself, and its larger step is EF21's, too.
//
// Richtarik, Sokolov, Fatkhullin, "EF21" (NeurIPS 2021), theorem 1; Richtarik, Gasanov,
// Burlachenko, "Error Feedback Reloaded" (ICLR 2024), theorem 3.
#pragma once

#include <vector>

#include "absl/types/span.h"

#include "core/base/status.h"
#include "core/tensor/view.h"

namespace trireme {

struct Ef21Steps {
  double arithmetic_mean = 0, quadratic_mean = 0;  // L_AM, L_QM.
  double xi = 0;
  double ef21 = 0, ef21_w = 0;
  std::vector<double> weights;  // w_i; sum 1.
};

// `smoothness_of_mean`: L, at most L_AM; 0: L_AM is taken. INVALID_ARGUMENT when a constant is
// negative or not finite, when all are 0, when L is over L_AM, or when alpha is not in (0, 1].
StatusOr<Ef21Steps> Ef21StepSizes(absl::Span<const double> smoothness, double smoothness_of_mean,
                                  double contraction);

// What a pair of points says of a smoothness constant, from below: ||g - g'|| / ||x - x'||. Sums
// over the parts of a vector, and over the ranks that have them, add up.
struct Secant {
  double points = 0, gradients = 0;  // ||x - x'||^2, ||g - g'||^2.

  void Add(const Secant& other) {
    points += other.points;
    gradients += other.gradients;
  }
  // 0 when the points are one.
  double smoothness() const;
};

// Dense values of one type and size, f32 or f64.
Secant SecantOf(const View& x, const View& other_x, const View& g, const View& other_g);

}  // namespace trireme
