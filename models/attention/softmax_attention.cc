// Legend: n tokens, c width, h heads, g key-value heads, d head width; h and g are this rank's.
#include "models/attention/softmax_attention.h"

#include <algorithm>

namespace trireme {
namespace {

class SoftmaxAttention : public TokenMixer {
 public:
  SoftmaxAttention(const Params& params, const MixerShape& shape, const QkvSizes& sizes,
                   const Scope& scope)
      : TokenMixer(shape), window_(params.Int("window")), heads_(params, shape, sizes, scope) {}

  void AddTraffic(UnitTraffic* traffic) const override {
    heads_.AddTrafficIn(traffic);
    AddSoftmaxTraffic(heads_.sizes(), shape().tensor, traffic);
    heads_.AddTrafficOut(traffic);
  }

  void AddKernels(std::set<std::string>*) const override {}

  double ForwardFlops(const TokenLayout& layout) const override {
    double tokens = 0;
    for (const Segment& segment : layout.segments) tokens += segment.length;
    return SoftmaxFlops(layout, heads_.sizes(), window_) + tokens * heads_.Flops();
  }

 private:
  Tensor Mix(const Tensor& x_nc, const TokenFlow& flow) const override {
    const auto [q_nhd, k_ngd, v_ngd] = heads_.In(x_nc, flow);
    return heads_.Out(flow.Attend(heads_.WithPosition(q_nhd, flow),
                                  heads_.WithPosition(k_ngd, flow), v_ngd, window_,
                                  heads_.scale()));
  }

  const int64_t window_;
  const QkvHeads heads_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeSoftmaxAttention(const Params& params,
                                                           const MixerShape& shape,
                                                           const Scope& scope) {
  ASSIGN_OR_RETURN(const QkvSizes sizes, QkvSizesOf("softmax", params, shape));
  return std::make_unique<SoftmaxAttention>(params, shape, sizes, scope);
}

double SoftmaxFlops(const TokenLayout& layout, const QkvSizes& sizes, int64_t window) {
  double pairs = 0;
  for (const Segment& segment : layout.segments) {
    const double length = segment.length;
    const double span = window > 0 ? std::min<double>(window, length) : length;
    // Half the square, and full rows beyond the window.
    pairs += span * span / 2 + (length - span) * span;
  }
  return 4 * pairs * sizes.heads * sizes.width;
}

void AddSoftmaxTraffic(const QkvSizes& sizes, const TensorAxis& tensor, UnitTraffic* traffic) {
  const int64_t d = sizes.width;
  traffic->attention.push_back(
      {sizes.heads / tensor.size, std::max<int64_t>(1, sizes.kv_heads / tensor.size), d, d});
}

}  // namespace trireme
