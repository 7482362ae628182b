// Legend: n tokens, h heads of this rank, m memories with the shared one, d key width, v value
// width.
#include "models/attention/mom.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/autograd/node.h"
#include "models/layers/decay_gate.h"
#include "models/layers/norms.h"

namespace trireme {
namespace {

// Where p is among the top_k of its row: 1, else 0, in the type of p. Of equal ones the first.
Tensor TopK(const Tensor& p_ne, int64_t top_k) {
  const NoGrad no_grad;
  const int64_t n = p_ne.dim(0), e = p_ne.dim(1);
  Device& device = p_ne.device();
  std::vector<int64_t> numbers(e);
  for (int64_t i = 0; i < e; ++i) numbers[i] = i;
  const Tensor columns = Tensor::FromHost<int64_t>(device, {e}, numbers);
  const Tensor one = Tensor::Full(device, {1}, p_ne.dtype(), 1);
  const Tensor none = Tensor::Full(device, {1}, p_ne.dtype(), -1);
  Tensor picked = Tensor::Zeros(device, p_ne.shape(), p_ne.dtype()), rest = p_ne.Detach();
  for (int64_t i = 0; i < top_k; ++i) {
    const Tensor best = Equal(Reshape(ArgMax(rest, 1), {n, 1}), columns);
    picked = Where(best, one, picked);
    rest = Where(best, none, rest);
  }
  return picked;
}

class Mom : public TokenMixer {
 public:
  Mom(const Params& params, const MixerShape& shape, const HeadSizes& sizes, const Scope& scope)
      : TokenMixer(shape),
        sizes_(sizes),
        delta_(params.String("base") != "linear"),
        picked_memories_(params.Int("memories")),
        top_k_(params.Int("top_k")),
        num_memories_(picked_memories_ + (params.Bool("shared_memory") ? 1 : 0)),
        num_sets_(params.Bool("single_kv") ? 1 : num_memories_),
        balance_(params.Float("balance")),
        projections_(shape.tensor, scope, shape.width),
        q_conv_(shape.tensor, scope, "q_conv", sizes.heads, sizes.key_width,
                params.Int("conv_size")),
        k_conv_(shape.tensor, scope, "k_conv", sizes.heads, sizes.key_width,
                params.Int("conv_size")),
        v_conv_(shape.tensor, scope, "v_conv", sizes.heads, sizes.value_width,
                params.Int("conv_size")),
        norm_(shape.tensor, scope.Child("o_norm"), sizes.value_width, shape.norm_epsilon) {
    const Init init = Init::Normal(shape.init_stddev);
    projections_.AddHeads("wq", sizes.heads, sizes.key_width, init);
    projections_.AddHeads("wg", sizes.heads, sizes.value_width, init);
    projections_.AddHeads("router", 1, picked_memories_, init);
    if (params.String("base") == "gated_deltanet") {
      gate_.emplace(shape.tensor, scope, sizes.heads, /*width=*/1, /*low=*/0, /*high=*/16);
    }
    for (int64_t i = 0; i < num_sets_; ++i) {
      const std::string memory = num_sets_ == 1          ? ""
                                 : i == picked_memories_ ? "_shared"
                                                         : absl::StrCat("_", i);
      projections_.AddHeads("wk" + memory, sizes.heads, sizes.key_width, init);
      projections_.AddHeads("wv" + memory, sizes.heads, sizes.value_width, init);
      if (delta_) projections_.AddHeads("wb" + memory, sizes.heads, 1, init);
      if (gate_.has_value()) projections_.AddHeads("wa" + memory, sizes.heads, 1, init);
    }
    projections_.SetOutput(sizes.heads, sizes.value_width, Init::Normal(shape.output_stddev));
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    return NumTokens(layout) * (projections_.Flops() + q_conv_.Flops() +
                                num_sets_ * (k_conv_.Flops() + v_conv_.Flops()) +
                                RecurrenceFlops(rule(), StateSizes()));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    q_conv_.AddTraffic(traffic);
    for (int64_t i = 0; i < num_sets_; ++i) {
      k_conv_.AddTraffic(traffic);
      v_conv_.AddTraffic(traffic);
    }
    AddRecurrence(shape().tensor, rule(), StateSizes(), gate_.has_value() ? 1 : 0, traffic);
    if (balance_ > 0)
      traffic->recurrences.push_back({1, 1, picked_memories_, 0, /*backward=*/false});
    projections_.AddTrafficOut(traffic);
  }

 private:
  StateRule rule() const { return delta_ ? StateRule::kDelta : StateRule::kDiagonal; }
  HeadSizes StateSizes() const {
    const int64_t heads = sizes_.heads * num_memories_;
    return {heads, heads, sizes_.key_width, sizes_.value_width};
  }

  Tensor Mix(const Tensor& x, const TokenFlow& flow) const override {
    const std::vector<Tensor> projected = projections_.In(x, flow.num_tokens());
    const Tensor p_ne = Softmax(To(projected[2], AccumulationType(x.dtype())));
    const Tensor picked_ne = TopK(p_ne, top_k_);
    const Tensor chosen_ne = Mul(p_ne, picked_ne);
    const Tensor weights_nm = WithShared(Div(chosen_ne, Sum(chosen_ne, 1, /*keep_dim=*/true)));
    const Tensor o_nhmv = Remember(projected, flow, WithShared(picked_ne));
    const Tensor weights =
        To(Reshape(weights_nm, {flow.num_tokens(), 1, num_memories_, 1}), x.dtype());
    Tensor o_nhv = Sum(Mul(o_nhmv, weights), 2);
    if (flow.training() && balance_ > 0) o_nhv = AddLoss(o_nhv, Imbalance(p_ne, picked_ne, flow));
    return projections_.Out(SwiGlu(projected[1], JoinHeads(norm_(o_nhv))));
  }

  // How often tokens so far picked each memory, from a state that adds up: one head, one row. The
  // ranks of the tensor axis have it alike, and their gradients of the router are added up.
  Tensor Imbalance(const Tensor& p_ne, const Tensor& picked_ne, const TokenFlow& flow) const {
    const int64_t n = p_ne.dim(0), e = picked_memories_;
    RecurrenceInputs in;
    in.q = in.k = Tensor::Full(p_ne.device(), {n, 1, 1}, p_ne.dtype(), 1);
    in.v = Reshape(picked_ne, {n, 1, e});
    const Tensor counts_ne = Reshape(flow.Recur(in), {n, e});
    const Tensor shares_ne = Div(counts_ne, Sum(counts_ne, 1, /*keep_dim=*/true));
    return Mul(Sum(Mul(p_ne, shares_ne)), balance_ * static_cast<double>(e) / shape().tensor.size);
  }

  // A column of ones for the shared memory.
  Tensor WithShared(const Tensor& x_ne) const {
    if (num_memories_ == picked_memories_) return x_ne;
    return Concat({x_ne, Tensor::Full(x_ne.device(), {x_ne.dim(0), 1}, x_ne.dtype(), 1)}, 1);
  }

  // What each memory says, [n, h, m, v]. A head has its memories side by side.
  Tensor Remember(absl::Span<const Tensor> projected, const TokenFlow& flow,
                  const Tensor& picked_nm) const {
    const int64_t n = projected[0].dim(0), h = projected[0].dim(1) / sizes_.key_width;
    const int64_t m = num_memories_, d = sizes_.key_width, v = sizes_.value_width;
    std::vector<Tensor> ks, vs, betas, decays;
    size_t next = 3;
    for (int64_t i = 0; i < num_sets_; ++i) {
      ks.push_back(Reshape(L2Norm(SplitHeads(k_conv_(projected[next++], flow), d)), {n, h, 1, d}));
      vs.push_back(Reshape(v_conv_(projected[next++], flow), {n, h, 1, v}));
      if (delta_) betas.push_back(Reshape(Sigmoid(projected[next++]), {n, h, 1}));
      if (gate_.has_value()) {
        decays.push_back(Reshape(gate_->LogDecay(gate_->StepSizes(projected[next++])), {n, h, 1}));
      }
    }
    const auto by_head = [&](absl::Span<const Tensor> sets) {
      return sets.size() == 1 ? sets[0] : Concat(sets, 2);
    };
    const Tensor picked = Reshape(picked_nm, {n, 1, m}), mask = To(picked, projected[0].dtype());
    const Tensor q_nhd = L2Norm(SplitHeads(q_conv_(projected[0], flow), d));
    RecurrenceInputs in;
    in.rule = rule();
    in.q = Reshape(Broadcast(Reshape(q_nhd, {n, h, 1, d}), {n, h, num_sets_, d}),
                   {n, h * num_sets_, d});
    in.k = Reshape(by_head(ks), {n, h * num_sets_, d});
    // A token that a memory leaves out writes nothing to it.
    const Tensor values = delta_ ? Broadcast(by_head(vs), {n, h, m, v})
                                 : Mul(by_head(vs), Reshape(mask, {n, 1, m, 1}));
    in.v = Reshape(values, {n, h * m, v});
    if (delta_) in.beta = Reshape(Mul(by_head(betas), mask), {n, h * m});
    if (gate_.has_value()) in.log_decay = Reshape(Mul(by_head(decays), picked), {n, h * m});
    in.scale = 1 / std::sqrt(static_cast<double>(d));
    return Reshape(flow.Recur(in), {n, h, m, v});
  }

  const HeadSizes sizes_;
  const bool delta_;
  const int64_t picked_memories_, top_k_, num_memories_;
  const int64_t num_sets_;  // Of keys, values and gates.
  const double balance_;
  HeadProjections projections_;
  const ShortConvolution q_conv_, k_conv_, v_conv_;
  std::optional<DecayGate> gate_;
  const HeadRmsNorm norm_;
};

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeMom(const Params& params, const MixerShape& shape,
                                              const Scope& scope) {
  HeadSizes sizes;
  sizes.heads = sizes.key_heads = params.Int("heads");
  sizes.key_width = params.Int("head_width");
  ASSIGN_OR_RETURN(sizes.value_width,
                   HeadWidth("mom", "expand_v", params.Float("expand_v"), sizes.key_width, 1));
  RETURN_IF_ERROR(CheckHeadCut("mom", shape.tensor, sizes.heads, sizes.heads));
  if (params.Int("top_k") == 1 && params.Int("memories") > 1) {
    return absl::InvalidArgumentError(
        "mom: top_k = 1 teaches the router nothing: the weights of picked memories add up to one");
  }
  if (params.Int("top_k") > params.Int("memories")) {
    return absl::InvalidArgumentError(absl::StrCat("mom: top_k = ", params.Int("top_k"),
                                                   " of memories = ", params.Int("memories")));
  }
  return std::make_unique<Mom>(params, shape, sizes, scope);
}

}  // namespace trireme
