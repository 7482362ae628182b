// Legend: n tokens, h heads, g key-value heads, d head width, f features; h and g are this rank's.
#include "models/attention/linearized.h"

#include "core/ops/ops.h"
#include "models/attention/linear_heads.h"
#include "models/attention/softmax_attention.h"
#include "models/layers/feature_map.h"

namespace trireme {
namespace {

constexpr double kGateDivisor = 16;

// Head i gets what key-value head i / (h / g) has.
Tensor ToQueryHeads(const Tensor& x_ngd, int64_t h) {
  const int64_t n = x_ngd.dim(0), g = x_ngd.dim(1), d = x_ngd.dim(2);
  return Reshape(Broadcast(Reshape(x_ngd, {n, g, 1, d}), {n, g, h / g, d}), {n, h, d});
}

class Linearized : public TokenMixer {
 public:
  Linearized(const Params& params, const MixerShape& shape, const QkvSizes& sizes,
             const FeatureMapInfo& map, const Scope& scope)
      : TokenMixer(shape),
        window_(params.Int("window")),
        transfer_(params.Bool("transfer")),
        heads_(params, shape, sizes, scope) {
    if (params.String("form") == "liger") return;
    q_map_.emplace(map, shape.tensor, scope, "q_map", sizes.heads, sizes.width);
    k_map_.emplace(map, shape.tensor, scope, "k_map", sizes.kv_heads, sizes.width);
    features_ = map.features(sizes.width);
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    const QkvSizes& sizes = heads_.sizes();
    const int64_t h = sizes.heads / shape().tensor.size, d = sizes.width;
    heads_.AddTrafficIn(traffic);
    if (q_map_.has_value()) {
      traffic->recurrences.push_back({h, features_, d + 1, 0});
    } else {
      traffic->recurrences.push_back({h, d, d, d});
    }
    if (transfer_ || !q_map_.has_value()) {
      AddSoftmaxTraffic(sizes, shape().tensor, traffic);
    }
    heads_.AddTrafficOut(traffic);
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    const QkvSizes& sizes = heads_.sizes();
    double token = heads_.Flops();
    if (q_map_.has_value()) token += q_map_->Flops() + k_map_->Flops();
    const int64_t features = q_map_.has_value() ? features_ : sizes.width;
    token +=
        RecurrenceFlops(StateRule::kDiagonal, {sizes.heads, sizes.heads, features, sizes.width});
    double flops = NumTokens(layout) * token;
    if (!q_map_.has_value()) flops += SoftmaxFlops(layout, sizes, window_);
    if (transfer_) flops += SoftmaxFlops(layout, sizes, /*window=*/0);
    return flops;
  }

 private:
  Tensor Mix(const Tensor& x_nc, const TokenFlow& flow) const override {
    const QkvHeads::Tensors in = heads_.In(x_nc, flow);
    if (!transfer_ || !flow.training()) return heads_.Out(Linear(in, flow));
    const Tensor y_nhd = Softmax(in, flow, /*window=*/0);
    // What is learned from the outputs is the feature maps alone.
    const Tensor z_nhd = Linear({in.q.Detach(), in.k.Detach(), in.v.Detach()}, flow);
    const DType acc = AccumulationType(x_nc.dtype());
    const Tensor difference = Sub(To(z_nhd, acc), To(y_nhd.Detach(), acc));
    const double channels = static_cast<double>(heads_.sizes().heads * heads_.sizes().width);
    const Tensor error = Mul(Sum(Mul(difference, difference)), 1 / channels);
    return heads_.Out(AddLoss(y_nhd, error));
  }

  Tensor Linear(const QkvHeads::Tensors& in, const TokenFlow& flow) const {
    const int64_t h = in.q.dim(1);
    RecurrenceInputs inputs;
    inputs.v = ToQueryHeads(in.v, h);
    if (q_map_.has_value()) {
      inputs.q = (*q_map_)(heads_.WithPosition(in.q, flow));
      inputs.k = ToQueryHeads((*k_map_)(heads_.WithPosition(in.k, flow)), h);
      return NormalizedRecurrence(inputs, flow);
    }
    const Tensor gate = To(in.k, AccumulationType(in.k.dtype()));
    inputs.q = trireme::Softmax(in.q, -1);
    inputs.k = ToQueryHeads(trireme::Softmax(in.k, -1), h);
    inputs.log_decay = ToQueryHeads(Mul(LogSigmoid(gate), 1 / kGateDivisor), h);
    return Mul(Add(flow.Recur(inputs), Softmax(in, flow, window_)), 0.5);
  }

  Tensor Softmax(const QkvHeads::Tensors& in, const TokenFlow& flow, int64_t window) const {
    return flow.Attend(heads_.WithPosition(in.q, flow), heads_.WithPosition(in.k, flow), in.v,
                       window, heads_.scale());
  }

  const int64_t window_;
  const bool transfer_;
  const QkvHeads heads_;
  std::optional<FeatureMap> q_map_, k_map_;  // Of hedgehog.
  int64_t features_ = 0;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeLinearized(const Params& params, const MixerShape& shape,
                                                     const Scope& scope) {
  ASSIGN_OR_RETURN(const QkvSizes sizes, QkvSizesOf("linearized", params, shape));
  if (params.Bool("transfer") && params.String("form") == "liger") {
    return absl::InvalidArgumentError(
        "linearized: form = liger has nothing that transfer could learn");
  }
  ASSIGN_OR_RETURN(const FeatureMapInfo* map, FindFeatureMap("hedgehog"));
  return std::make_unique<Linearized>(params, shape, sizes, *map, scope);
}

}  // namespace trireme
