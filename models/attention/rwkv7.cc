// Legend: n tokens, c width, h heads of this rank, d head width.
#include "models/attention/rwkv7.h"

#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "models/layers/head_projections.h"
#include "models/layers/norms.h"
#include "parallel/layers/layer_traffic.h"

namespace trireme {
namespace {

constexpr const char* kStreamPurpose = "shifted stream";
constexpr double kFastestLogDecay = -0.6065306597126334;  // -e^(-1/2)

// What a projection reads, and the index of its weight.
enum Projection { kR, kW, kK, kV, kA, kG, kNumProjections };
constexpr std::array<const char*, kNumProjections> kMixNames = {"x_r", "x_w", "x_k",
                                                                "x_v", "x_a", "x_g"};
constexpr std::array<double, kNumProjections> kMixExponents = {0.2, 0.9, 0.7, 0.7, 0.9, 0.2};

struct Ranks {
  int64_t decay, rate, gate;
};

// How parameters of channel i of all start, as the authors' code has it.
struct Starts {
  Starts(const MixerShape& shape, int64_t head_width)
      : width(static_cast<double>(shape.width)),
        head_width(head_width),
        depth(shape.num_layers > 1 ? static_cast<double>(shape.layer) / (shape.num_layers - 1) : 0),
        remaining(1 - static_cast<double>(shape.layer) / shape.num_layers) {}

  Init Mix(double exponent) const {
    return Init::Function([s = *this, exponent](RngKey, int64_t i) {
      return 1 - std::pow(static_cast<double>(i) / s.width, exponent * s.remaining);
    });
  }
  Init DecayBias() const {
    return Init::Function([s = *this](RngKey, int64_t i) {
      const double along = static_cast<double>(i) / (s.width - 1);
      return -5.5 + 6 * std::pow(along, 1 + std::pow(s.depth, 0.3)) + 2.5 * s.Zigzag(i);
    });
  }
  Init RateBias() const {
    return Init::Function(
        [s = *this](RngKey, int64_t i) { return -0.19 + 0.3 * s.Zigzag(i) + 0.4 * s.Linear(i); });
  }
  Init KeyScale() const {
    return Init::Function([s = *this](RngKey, int64_t i) { return 0.71 - 0.1 * s.Linear(i); });
  }

  double Linear(int64_t i) const { return static_cast<double>(i) / (width - 1) - 0.5; }
  double Zigzag(int64_t i) const {
    const double half = (static_cast<double>(head_width) - 1) / 2;
    const double z = (static_cast<double>(i % head_width) - half) / half;
    return z * std::abs(z);
  }

  double width;
  int64_t head_width;
  double depth, remaining;
};

class Rwkv7 : public TokenMixer {
 public:
  Rwkv7(const MixerShape& shape, const HeadSizes& sizes, const Ranks& ranks, const Scope& scope)
      : Rwkv7(shape, sizes, ranks, scope, Starts(shape, sizes.key_width)) {}

  double ForwardFlops(const TokenLayout& layout) const override {
    return NumTokens(layout) * (projections_.Flops() + decay_.Flops() + rate_.Flops() +
                                gate_.Flops() + RecurrenceFlops(StateRule::kLowRank, sizes_));
  }

  void AddTraffic(UnitTraffic* traffic) const override {
    AddFromStream(shape().tensor, shape().width, kStreamPurpose, traffic);
    traffic->halos.push_back({1, shape().width});
    AddRecurrence(shape().tensor, StateRule::kLowRank, sizes_, /*decay_width=*/0, traffic);
    projections_.AddTrafficOut(traffic);
  }

 private:
  Rwkv7(const MixerShape& shape, const HeadSizes& sizes, const Ranks& ranks, const Scope& scope,
        const Starts& starts)
      : TokenMixer(shape),
        sizes_(sizes),
        projections_(shape.tensor, scope, shape.width),
        decay_(shape.tensor, scope, "decay", ranks.decay, sizes.heads, sizes.key_width,
               Init::Normal(shape.init_stddev), starts.DecayBias()),
        rate_(shape.tensor, scope, "rate", ranks.rate, sizes.heads, sizes.key_width,
              Init::Normal(shape.init_stddev), starts.RateBias()),
        gate_(shape.tensor, scope, "gate", ranks.gate, sizes.heads, sizes.key_width,
              Init::Normal(shape.init_stddev), std::nullopt),
        norm_(shape.tensor, scope.Child("o_norm"), sizes.heads, sizes.value_width,
              static_cast<double>(sizes.key_width) * shape.norm_epsilon,
              std::pow((shape.layer + 1.0) / shape.num_layers, 0.7)) {
    const TensorAxis& tensor = shape.tensor;
    const int64_t h = sizes.heads, d = sizes.key_width;
    const Init init = Init::Normal(shape.init_stddev), zero = Init::Constant(0);
    for (int i = 0; i < kNumProjections; ++i) {
      mixes_[i] =
          tensor.DeclareOnColumns(scope, kMixNames[i], {shape.width}, starts.Mix(kMixExponents[i]));
    }
    projections_.AddHeads("wr", h, d, init);
    projections_.AddHeads("decay_down", 1, ranks.decay, zero);
    projections_.AddHeads("wk", h, d, Init::Normal(0.1 * shape.init_stddev));
    projections_.AddHeads("wv", h, d, init);
    projections_.AddHeads("rate_down", 1, ranks.rate, zero);
    projections_.AddHeads("gate_down", 1, ranks.gate, init);
    projections_.SetOutput(h, d, zero);
    const auto by_heads = [&](const char* name, const Init& start) {
      return tensor.DeclareHeads(scope, name, {h * d}, start, h, /*decay=*/false);
    };
    k_k_ = by_heads("k_k", starts.KeyScale());
    k_a_ = by_heads("k_a", Init::Constant(1.02));
    r_k_ = by_heads("r_k", Init::Constant(-0.04));
  }

  Tensor Mix(const Tensor& stream, const TokenFlow& flow) const override {
    const Tensor x_nc = shape().tensor.FromStream(stream, flow.num_tokens(), kStreamPurpose);
    const Tensor step_nc = Sub(flow.Previous(x_nc), x_nc);
    std::array<Tensor, kNumProjections> p;
    for (int i = 0; i < kNumProjections; ++i) {
      p[i] = projections_.In(i, Add(x_nc, Mul(step_nc, mixes_[i]->working)));
    }
    const Tensor eta = Sigmoid(rate_(p[kA]));
    const Tensor kappa_nhd = L2Norm(Heads(Mul(p[kK], k_k_->working)));
    const Tensor k = Mul(p[kK], Add(Mul(Add(eta, -1), k_a_->working), 1));
    const Tensor log_decay =
        Mul(Sigmoid(To(decay_(Tanh(p[kW])), AccumulationType(x_nc.dtype()))), kFastestLogDecay);
    RecurrenceInputs in;
    in.rule = StateRule::kLowRank;
    in.q = Heads(p[kR]);
    in.k = Heads(k);
    in.v = Heads(p[kV]);
    in.log_decay = Heads(log_decay);
    in.a = Neg(kappa_nhd);
    in.b = Mul(kappa_nhd, Heads(eta));
    const Tensor own = Sum(Heads(Mul(Mul(p[kR], k), r_k_->working)), 2, /*keep_dim=*/true);
    const Tensor o = Add(norm_(flow.Recur(in)), Mul(own, in.v));
    return projections_.Out(Mul(JoinHeads(o), gate_(Sigmoid(p[kG]))));
  }

  Tensor Heads(const Tensor& x) const { return SplitHeads(x, sizes_.key_width); }

  const HeadSizes sizes_;
  HeadProjections projections_;
  const LowRankUp decay_, rate_, gate_;
  const HeadGroupNorm norm_;
  std::array<const Parameter*, kNumProjections> mixes_;
  const Parameter *k_k_, *k_a_, *r_k_;
};

// At least 32, as a multiple of it.
int64_t RankOr(int64_t given, double otherwise) {
  return given > 0 ? given : std::max<int64_t>(32, 32 * std::llround(otherwise / 32));
}

}  // namespace

StatusOr<std::unique_ptr<TokenMixer>> MakeRwkv7(const Params& params, const MixerShape& shape,
                                                const Scope& scope) {
  HeadSizes sizes;
  sizes.key_width = sizes.value_width = params.Int("head_width");
  if (shape.width % sizes.key_width != 0) {
    return absl::InvalidArgumentError(absl::StrCat("rwkv7: head_width = ", sizes.key_width,
                                                   " does not divide width = ", shape.width));
  }
  sizes.heads = sizes.key_heads = shape.width / sizes.key_width;
  RETURN_IF_ERROR(CheckHeadCut("rwkv7", shape.tensor, sizes.heads, sizes.heads));
  const double root = std::sqrt(static_cast<double>(shape.width));
  Ranks ranks;
  ranks.decay =
      RankOr(params.Int("decay_rank"), 2.5 * root * static_cast<double>(sizes.key_width) / 64);
  ranks.rate = params.Int("rate_rank") > 0 ? params.Int("rate_rank") : ranks.decay;
  ranks.gate = RankOr(params.Int("gate_rank"), 5 * root);
  return std::make_unique<Rwkv7>(shape, sizes, ranks, scope);
}

}  // namespace trireme
