// Legend: n tokens, c width, f mlp_width, v vocabulary.
#include "models/transformer.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/module/scope.h"
#include "core/ops/ops.h"
#include "models/attention/token_mixer.h"

namespace trireme {
namespace {

struct Layer {
  std::string path;
  const Parameter* mixer_norm;
  std::unique_ptr<TokenMixer> mixer;
  const Parameter* mlp_norm;
  const Parameter *gate, *up, *down;
};

class Transformer : public Model {
 public:
  explicit Transformer(const Params& params)
      : width_(params.Int("width")),
        mlp_width_(params.Int("mlp_width")),
        dropout_(params.Float("dropout")),
        epsilon_(params.Float("norm_epsilon")) {}

  // The letter's component for each layer in turn.
  Status Declare(const Params& params, const std::vector<ComponentConfig>& mixers, int64_t vocab_size) {
    const Scope root(parameters());
    const double stddev = params.Float("init_stddev");
    const double output_stddev = stddev / std::sqrt(2.0 * mixers.size());
    const Init init = Init::Normal(stddev), one = Init::Constant(1);
    embedding_ = root.Child("embedding").Declare("weight", {vocab_size, width_}, init);
    for (size_t i = 0; i < mixers.size(); ++i) {
      const Scope scope = root.InUnit(i + 1).Child("layers").Child(absl::StrCat(i));
      Layer layer;
      layer.path = scope.path();
      layer.mixer_norm = scope.Child("mixer_norm").Declare("gain", {width_}, one, false);
      ASSIGN_OR_RETURN(const auto* entry, FindEntry("attention", Attentions(), mixers[i].name));
      ASSIGN_OR_RETURN(const Params mixer_params,
                       Params::Create(entry->name, entry->params, mixers[i].params));
      ASSIGN_OR_RETURN(layer.mixer,
                       entry->factory(mixer_params, {width_, stddev, output_stddev, epsilon_},
                                      scope.Child("mixer")));
      layer.mlp_norm = scope.Child("mlp_norm").Declare("gain", {width_}, one, false);
      const Scope mlp = scope.Child("mlp");
      layer.gate = mlp.Declare("gate", {mlp_width_, width_}, init);
      layer.up = mlp.Declare("up", {mlp_width_, width_}, init);
      layer.down = mlp.Declare("down", {width_, mlp_width_}, Init::Normal(output_stddev));
      layers_.push_back(std::move(layer));
    }
    const Scope last = root.InUnit(mixers.size() + 1);
    final_norm_ = last.Child("final_norm").Declare("gain", {width_}, one, false);
    head_ = params.Bool("tied_head")
                ? embedding_
                : last.Child("head").Declare("weight", {vocab_size, width_}, init);
    return absl::OkStatus();
  }

  int num_units() const override { return static_cast<int>(layers_.size()) + 2; }

  Tensor RunUnit(int unit, const Tensor& hidden, const Batch& batch,
                 const ForwardContext& context) override {
    if (unit == 0) {
      return Dropped(Embedding(batch.inputs, embedding_->working), "embedding", context);
    }
    if (unit + 1 < num_units()) return RunLayer(layers_[unit - 1], hidden, context);
    return LinearCrossEntropy(RmsNorm(hidden, final_norm_->working, epsilon_), head_->working,
                              batch.labels);
  }

  Tensor Logits(const Batch& batch, const ForwardContext& context) override {
    Tensor hidden;
    for (int unit = 0; unit + 1 < num_units(); ++unit) hidden = RunUnit(unit, hidden, batch, context);
    return Linear(RmsNorm(hidden, final_norm_->working, epsilon_), head_->working);
  }

  double ForwardFlops(const TokenLayout& layout) const override {
    double flops = 0, tokens = 0;
    for (const Segment& segment : layout.segments) tokens += segment.length;
    for (const Layer& layer : layers_) {
      flops += layer.mixer->ForwardFlops(layout) + 6.0 * tokens * width_ * mlp_width_;
    }
    return flops + 2.0 * tokens * head_->spec.global.numel();
  }

 private:
  Tensor RunLayer(const Layer& layer, const Tensor& x_nc, const ForwardContext& context) const {
    const Tensor mixed =
        (*layer.mixer)(RmsNorm(x_nc, layer.mixer_norm->working, epsilon_), context);
    const Tensor y_nc = Add(x_nc, Dropped(mixed, layer.path + ".mixer", context));
    const Tensor z_nc = RmsNorm(y_nc, layer.mlp_norm->working, epsilon_);
    const Tensor u_nf =
        SwiGlu(Linear(z_nc, layer.gate->working), Linear(z_nc, layer.up->working));
    return Add(y_nc, Dropped(Linear(u_nf, layer.down->working), layer.path + ".mlp", context));
  }

  Tensor Dropped(const Tensor& x_nc, absl::string_view where, const ForwardContext& context) const {
    if (!context.training || dropout_ == 0) return x_nc;
    return Dropout(x_nc, dropout_,
                   MakeRngKey(context.seed, absl::StrCat(where, ".dropout"), context.step),
                   context.layout);
  }

  const int64_t width_, mlp_width_;
  const double dropout_, epsilon_;
  const Parameter* embedding_ = nullptr;
  std::vector<Layer> layers_;
  const Parameter* final_norm_ = nullptr;
  const Parameter* head_ = nullptr;
};

}  // namespace

StatusOr<std::unique_ptr<Model>> MakeTransformer(const Params& params, const ComponentConfig& config,
                                                 const DataShape& data) {
  const int64_t vocab_size =
      params.Int("vocab_size") > 0 ? params.Int("vocab_size") : data.vocab_size;
  if (data.vocab_size == 0) {
    return absl::InvalidArgumentError("transformer: needs data made of tokens");
  }
  if (vocab_size < data.vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat("transformer: vocab_size = ", vocab_size,
                                                   " but the data has ", data.vocab_size, " tokens"));
  }
  const std::string& pattern = params.String("layers");
  if (pattern.empty()) return absl::InvalidArgumentError("transformer: layers is empty");
  for (const auto& [letter, part] : config.parts) {
    if (letter.size() != 1 || pattern.find(letter) == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(
          "transformer: part '", letter, "' is no letter of layers = '", pattern, "'"));
    }
  }
  std::vector<ComponentConfig> mixers;
  for (int64_t i = 0; i < params.Int("num_layers"); ++i) {
    const std::string letter(1, pattern[i % pattern.size()]);
    const auto part = config.parts.find(letter);
    if (part == config.parts.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "transformer: layers = '", pattern, "' needs a part '", letter, "' that says its mixer"));
    }
    mixers.push_back(part->second);
  }
  auto model = std::make_unique<Transformer>(params);
  RETURN_IF_ERROR(model->Declare(params, mixers, vocab_size));
  return model;
}

}  // namespace trireme
