// A short causal convolution of each channel along its document, then SiLU: what linear attention
// has before its queries, keys and values.
#pragma once

#include "core/module/unit_traffic.h"
#include "models/attention/token_flow.h"
#include "parallel/layers/tensor_axis.h"

namespace trireme {

class ShortConvolution {
 public:
  // Parameters NAME [heads * width, size], and NAME_bias [heads * width] with `bias`. size 0: SiLU
  // alone.
  ShortConvolution(const TensorAxis& axis, const Scope& scope, absl::string_view name,
                   int64_t heads, int64_t width, int64_t size, bool bias = false);

  // Without `silu`, what goes into it.
  Tensor operator()(const Tensor& x, const TokenFlow& flow, bool silu = true) const;
  // Of a call.
  void AddTraffic(UnitTraffic* traffic) const;
  double Flops() const { return weight_ == nullptr ? 0 : 2.0 * weight_->spec.global.numel(); }

 private:
  const Parameter* weight_ = nullptr;
  const Parameter* bias_ = nullptr;
};

}  // namespace trireme
