// The heads of softmax attention, and of what stands in for it: queries, keys and values of a
// stream, with grouped keys (Ainslie et al. 2023), rotary positions (Su et al. 2021) and optional
// norms (Henry et al. 2020); and the way back onto the stream.
#pragma once

#include <optional>

#include "models/attention/token_mixer.h"
#include "models/layers/head_projections.h"
#include "models/layers/norms.h"

namespace trireme {

inline constexpr ParamInfo kQkvHeadsParam = {"heads", ParamType::kInt, nullptr, "query heads", 1};
inline constexpr ParamInfo kQkvKvHeadsParam = {
    "kv_heads", ParamType::kInt, "0", "key-value heads, a divisor of heads; 0: as many as heads",
    0};
inline constexpr ParamInfo kQkvHeadWidthParam = {"head_width", ParamType::kInt, "0",
                                                 "channels of a head, even; 0: width / heads", 0};
inline constexpr ParamInfo kQkvRotaryParam = {"rotary_theta", ParamType::kFloat, "10000",
                                              "base of the rotary frequencies; 0: no positions", 0};
inline constexpr ParamInfo kQkvNormParam = {"qk_norm", ParamType::kBool, "false",
                                            "RMS norm over each head of queries and keys"};

struct QkvSizes {
  int64_t heads, kv_heads, width;
};
// Of a table with the five parameters above. INVALID_ARGUMENT, in the name of `component`, when
// they do not fit each other, the width or the axes.
StatusOr<QkvSizes> QkvSizesOf(absl::string_view component, const Params& params,
                              const MixerShape& shape);

class QkvHeads {
 public:
  // Declares wq, wk, wv, wo and, on request, q_norm.gain and k_norm.gain.
  QkvHeads(const Params& params, const MixerShape& shape, const QkvSizes& sizes,
           const Scope& scope);

  struct Tensors {
    Tensor q;     // [n, h, d]
    Tensor k, v;  // [n, g, d]
  };
  // Keys and queries without positions.
  Tensors In(const Tensor& x_nc, const TokenFlow& flow) const;
  Tensor WithPosition(const Tensor& x_nhd, const TokenFlow& flow) const;
  Tensor Out(const Tensor& y_nhd) const { return projections_.Out(JoinHeads(y_nhd)); }

  const QkvSizes& sizes() const { return sizes_; }
  double scale() const;  // 1 / sqrt(d)
  double Flops() const { return projections_.Flops(); }
  void AddTrafficIn(UnitTraffic* traffic) const { projections_.AddTrafficIn(traffic); }
  void AddTrafficOut(UnitTraffic* traffic) const { projections_.AddTrafficOut(traffic); }

 private:
  const QkvSizes sizes_;
  const double theta_;
  HeadProjections projections_;
  std::optional<HeadRmsNorm> q_norm_, k_norm_;
};

}  // namespace trireme
