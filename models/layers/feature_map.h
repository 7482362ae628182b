// Feature maps of kernel attention: q and k become phi(q) and phi(k), and phi(q) . phi(k) stands
// for the weight that softmax attention would give. x is a head of d channels.
//
//   identity   x
//   relu       max(x, 0)
//   elu_1      elu(x) + 1 (Katharopoulos et al. 2020)
//   dpfp       r_i r_(i-j) for j = 1 .. 4, of r = relu([x, -x]): 8 d features
//              (Schlag, Irie, Schmidhuber 2021)
//   taylor     1, x / d^(1/4), x_i x_j / sqrt(d) for i < j, x_i^2 / sqrt(2 d)
//              (Arora et al. 2024, Based): phi(q) . phi(k) = 1 + s + s^2 / 2, s = q . k / sqrt(d)
//   hedgehog   softmax(W x), softmax(-W x), W of each head learned: 2 d features
//              (Zhang et al. 2024)
#pragma once

#include "parallel/layers/tensor_axis.h"

namespace trireme {

struct FeatureMapInfo {
  const char* name;
  int64_t (*features)(int64_t width);
  bool positive;  // No feature is below zero, so that a sum of weights can be divided by.
  bool learned;   // A product with the weight of the head comes first.
  Tensor (*apply)(const Tensor& x);
};

// INVALID_ARGUMENT when there is no such map.
StatusOr<const FeatureMapInfo*> FindFeatureMap(absl::string_view name);
absl::Span<const FeatureMapInfo> FeatureMaps();

class FeatureMap {
 public:
  // Declares NAME [heads * width, width] when the map is learned; it starts as the identity.
  FeatureMap(const FeatureMapInfo& info, const TensorAxis& axis, const Scope& scope,
             absl::string_view name, int64_t heads, int64_t width);

  Tensor operator()(const Tensor& x) const;  // [n, h, width] -> [n, h, features]
  double Flops() const;                      // Of the learned product, for a token.

 private:
  const FeatureMapInfo& info_;
  const Parameter* weight_ = nullptr;
};

}  // namespace trireme
