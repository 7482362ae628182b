// Legend: n tokens, r rows sorted by memory, e memories to pick from, m with the shared one, h
// heads of this rank, v value width, c channels.
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

// A row for each memory that a token reads and writes: sorted by document, memory, token.
struct Picks {
  Tensor tokens;     // i64 [r]: the token of each row,
  Tensor memories;   // its token and memory, as an index into [n, m],
  Tensor sets;       // and its token and set of keys and values, into [n, sets].
  Tensor of_tokens;  // i64 [n * picks of a token]: the rows of each token.
  MemoryRows rows;
};

// picked [n, m] is 1 or 0, with equally many ones in each row.
Picks SortByMemory(const Tensor& picked, absl::Span<const TokenRun> runs, int64_t num_sets) {
  const int64_t n = picked.dim(0), m = picked.dim(1);
  const std::vector<double> is_picked = picked.ToVector();
  std::vector<int64_t> tokens, memories, sets;
  std::vector<std::vector<int64_t>> of_tokens(n);
  Picks picks;
  picks.rows.num_memories = m;
  for (const TokenRun& run : runs) {
    std::vector<int64_t>& counts = picks.rows.of_runs.emplace_back(m, 0);
    for (int64_t memory = 0; memory < m; ++memory) {
      for (int64_t t = run.begin; t < run.end; ++t) {
        if (is_picked[t * m + memory] == 0) continue;
        ++counts[memory];
        of_tokens[t].push_back(static_cast<int64_t>(tokens.size()));
        tokens.push_back(t);
        memories.push_back(t * m + memory);
        sets.push_back(t * num_sets + (num_sets == 1 ? 0 : memory));
      }
    }
  }
  std::vector<int64_t> flat;
  for (const std::vector<int64_t>& rows : of_tokens)
    flat.insert(flat.end(), rows.begin(), rows.end());
  const auto to_device = [&](const std::vector<int64_t>& values) {
    return Tensor::FromHost<int64_t>(picked.device(), {static_cast<int64_t>(values.size())},
                                     values);
  };
  picks.tokens = to_device(tokens);
  picks.memories = to_device(memories);
  picks.sets = to_device(sets);
  picks.of_tokens = to_device(flat);
  return picks;
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
                                picks_of_token() * RecurrenceFlops(rule(), sizes_));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    projections_.AddTrafficIn(traffic);
    q_conv_.AddTraffic(traffic);
    for (int64_t i = 0; i < num_sets_; ++i) {
      k_conv_.AddTraffic(traffic);
      v_conv_.AddTraffic(traffic);
    }
    AddRecurrence(shape().tensor, rule(), sizes_, gate_.has_value() ? 1 : 0, traffic);
    traffic->recurrences.back().memories = num_memories_;
    if (balance_ > 0)
      traffic->recurrences.push_back({1, 1, picked_memories_, 0, /*backward=*/false});
    projections_.AddTrafficOut(traffic);
  }

 private:
  StateRule rule() const { return delta_ ? StateRule::kDelta : StateRule::kDiagonal; }
  int64_t picks_of_token() const { return top_k_ + num_memories_ - picked_memories_; }

  Tensor Mix(const Tensor& x, const TokenFlow& flow) const override {
    const std::vector<Tensor> projected = projections_.In(x, flow.num_tokens());
    const Tensor p_ne = Softmax(To(projected[2], AccumulationType(x.dtype())));
    const Tensor picked_ne = TopK(p_ne, top_k_);
    const Tensor chosen_ne = Mul(p_ne, picked_ne);
    const Tensor weights_nm = WithShared(Div(chosen_ne, Sum(chosen_ne, 1, /*keep_dim=*/true)));
    const Picks picks = SortByMemory(WithShared(picked_ne), flow.Runs(), num_sets_);
    const Tensor o_rc = JoinHeads(Remember(projected, flow, picks));
    const int64_t n = flow.num_tokens(), v = sizes_.value_width;
    const Tensor weights_r1 =
        Embedding(picks.memories, Reshape(weights_nm, {n * num_memories_, 1}));
    const Tensor o_nc = Embedding(picks.of_tokens, Mul(o_rc, To(weights_r1, x.dtype())));
    Tensor o_nhv = Sum(Reshape(o_nc, {n, picks_of_token(), o_rc.dim(1) / v, v}), 1);
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

  // What memories say to the rows of tokens that picked them, [r, h, v].
  Tensor Remember(absl::Span<const Tensor> projected, const TokenFlow& flow,
                  const Picks& picks) const {
    std::vector<Tensor> ks, vs, betas, decays;
    size_t next = 3;
    for (int64_t i = 0; i < num_sets_; ++i) {
      ks.push_back(k_conv_(projected[next++], flow));
      vs.push_back(v_conv_(projected[next++], flow));
      if (delta_) betas.push_back(projected[next++]);
      if (gate_.has_value()) decays.push_back(gate_->LogDecay(gate_->StepSizes(projected[next++])));
    }
    // Of [n, c] for each set.
    const auto rows_of = [&](absl::Span<const Tensor> sets) {
      const int64_t n = sets[0].dim(0), c = sets[0].dim(1);
      return Embedding(picks.sets, Reshape(Concat(sets, 1), {n * num_sets_, c}));
    };
    const Tensor q_nc = q_conv_(projected[0], flow);
    RecurrenceInputs in;
    in.rule = rule();
    in.q = L2Norm(SplitHeads(Embedding(picks.tokens, q_nc), sizes_.key_width));
    in.k = L2Norm(SplitHeads(rows_of(ks), sizes_.key_width));
    in.v = SplitHeads(rows_of(vs), sizes_.value_width);
    if (delta_) in.beta = Sigmoid(rows_of(betas));
    if (gate_.has_value()) in.log_decay = rows_of(decays);
    in.scale = 1 / std::sqrt(static_cast<double>(sizes_.key_width));
    return flow.Recur(in, picks.rows);
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
