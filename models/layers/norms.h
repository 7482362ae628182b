// Norms of queries, keys and outputs of token mixers.
#pragma once

#include "core/module/unit_traffic.h"
#include "parallel/layers/tensor_axis.h"

namespace trireme {

// x / sqrt(sum x^2 + epsilon) over the last dimension.
Tensor L2Norm(const Tensor& x, double epsilon = 1e-6);

// RMS norm over the channels of a head [n, h, d]; the heads share "gain" [d].
class HeadRmsNorm {
 public:
  HeadRmsNorm(const TensorAxis& axis, const Scope& scope, int64_t width, double epsilon);
  Tensor operator()(const Tensor& x) const;

 private:
  const Parameter* gain_;
  const double epsilon_;
};

// RMS norm over the channels of each of `groups` groups of heads [n, h * d], with "gain" [heads *
// d]. The groups are cut over the tensor axis; a single one spans its ranks, which then add up the
// squares of each token.
class WideRmsNorm {
 public:
  // INVALID_ARGUMENT when a group would lie on some of the ranks.
  static Status Check(absl::string_view component, const TensorAxis& axis, int64_t groups);
  WideRmsNorm(const TensorAxis& axis, const Scope& scope, int64_t channels, int64_t groups,
              double epsilon);
  Tensor operator()(const Tensor& x) const;
  void AddTraffic(UnitTraffic* traffic) const;

 private:
  bool spans_ranks() const { return groups_ == 1 && axis_.size > 1; }

  const TensorAxis axis_;
  const int64_t channels_, groups_;
  const double epsilon_;
  const Parameter* gain_;
};

// Group norm (Wu and He 2018) with a group for each head [n, h, d]; "gain" and "bias" [heads * d].
class HeadGroupNorm {
 public:
  HeadGroupNorm(const TensorAxis& axis, const Scope& scope, int64_t heads, int64_t width,
                double epsilon, double gain);
  Tensor operator()(const Tensor& x) const;

 private:
  const double epsilon_;
  const Parameter *gain_, *bias_;
};

}  // namespace trireme
