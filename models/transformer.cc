// Legend: n tokens, c width, f mlp_width, v vocabulary; over the tensor axis f and v are this
// rank's part.
#include "models/transformer.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/module/lora.h"
#include "core/module/scope.h"
#include "core/ops/ops.h"
#include "models/attention/token_mixer.h"
#include "parallel/layers/column_linear.h"
#include "parallel/layers/layer_traffic.h"
#include "parallel/layers/vocabulary.h"

namespace trireme {
namespace {

struct Layer {
  std::string path;
  const Parameter* mixer_norm;
  std::unique_ptr<TokenMixer> mixer;
  const Parameter* mlp_norm;
  Parameter *gate, *up, *down;
};

// Of each layer in turn.
struct MixerStates : public StepState {
  std::vector<MixerState> of_layers;
};

class Transformer : public Model {
 public:
  Transformer(const Params& params, const ModelLayout& layout)
      : tensor_(layout.tensor),
        sequence_(layout.sequence),
        width_(params.Int("width")),
        mlp_width_(params.Int("mlp_width")),
        dropout_(params.Float("dropout")),
        epsilon_(params.Float("norm_epsilon")) {}

  // The letter's component for each layer in turn.
  Status Declare(const Params& params, const std::vector<ComponentConfig>& mixers,
                 int64_t vocab_size) {
    const Scope root(parameters());
    const double stddev = params.Float("init_stddev");
    const double output_stddev = stddev / std::sqrt(2.0 * mixers.size());
    const Init init = Init::Normal(stddev);
    embedding_ = tensor_.DeclareRows(root.Child("embedding"), "weight", {vocab_size, width_}, init);
    for (size_t i = 0; i < mixers.size(); ++i) {
      const Scope scope = root.InUnit(i + 1).Child("layers").Child(absl::StrCat(i));
      Layer layer;
      layer.path = scope.path();
      layer.mixer_norm = Gain(scope.Child("mixer_norm"));
      ASSIGN_OR_RETURN(const auto* entry, FindEntry("attention", Attentions(), mixers[i].name));
      ASSIGN_OR_RETURN(const Params mixer_params,
                       Params::Create(entry->name, entry->params, mixers[i].params));
      ASSIGN_OR_RETURN(layer.mixer,
                       entry->factory(mixer_params,
                                      {width_, stddev, output_stddev, epsilon_, tensor_, sequence_,
                                       static_cast<int>(i), static_cast<int>(mixers.size())},
                                      scope.Child("mixer")));
      layer.mlp_norm = Gain(scope.Child("mlp_norm"));
      const Scope mlp = scope.Child("mlp");
      layer.gate = tensor_.DeclareRows(mlp, "gate", {mlp_width_, width_}, init);
      layer.up = tensor_.DeclareRows(mlp, "up", {mlp_width_, width_}, init);
      layer.down =
          tensor_.DeclareColumns(mlp, "down", {width_, mlp_width_}, Init::Normal(output_stddev));
      for (Parameter* weight : {layer.gate, layer.up, layer.down}) weight->spec.is_product = true;
      layers_.push_back(std::move(layer));
    }
    const Scope last = root.InUnit(mixers.size() + 1);
    final_norm_ = Gain(last.Child("final_norm"));
    head_ = params.Bool("tied_head")
                ? last.Share(embedding_)
                : tensor_.DeclareRows(last.Child("head"), "weight", {vocab_size, width_}, init);
    return absl::OkStatus();
  }

  int num_units() const override { return static_cast<int>(layers_.size()) + 2; }

  std::string UnitName(int unit) const override {
    if (unit == 0) return "embedding";
    return unit + 1 < num_units() ? layers_[unit - 1].path : "head";
  }

  Tensor RunUnit(int unit, const Tensor& hidden, const Batch& batch,
                 const ForwardContext& context) override {
    if (unit == 0) {
      return Dropped(VocabularyEmbedding(tensor_, batch.inputs, *embedding_), "embedding", context);
    }
    if (unit + 1 < num_units()) return RunLayer(layers_[unit - 1], hidden, context);
    return VocabularyCrossEntropy(tensor_, RmsNorm(hidden, final_norm_->working, epsilon_), *head_,
                                  batch.labels);
  }

  Tensor Logits(const Tensor& hidden, const Batch& batch, const ForwardContext&) override {
    return VocabularyLogits(tensor_, RmsNorm(hidden, final_norm_->working, epsilon_),
                            batch.inputs.dim(0), *head_);
  }

  Tensor StepLogits(const Batch& batch, std::unique_ptr<StepState>* state) override {
    const NoGrad no_grad;
    if (*state == nullptr) *state = std::make_unique<MixerStates>();
    std::vector<MixerState>& states = static_cast<MixerStates&>(**state).of_layers;
    states.resize(layers_.size());
    ForwardContext context;
    context.layout = batch.layout;
    Tensor x_nc = VocabularyEmbedding(tensor_, batch.inputs, *embedding_);
    for (size_t i = 0; i < layers_.size(); ++i) {
      x_nc = RunLayer(layers_[i], x_nc, context, &states[i]);
    }
    return Logits(x_nc, batch, context);
  }

  Shape HiddenShape(int, int64_t n) const override { return {tensor_.StreamRows(n), width_}; }

  void AddTraffic(int unit, UnitTraffic* traffic) const override {
    if (unit == 0) return AddToStream(tensor_, width_, "embedding", traffic);
    if (unit + 1 == num_units()) return AddVocabularyCrossEntropy(tensor_, *head_, traffic);
    layers_[unit - 1].mixer->AddTraffic(traffic);
    AddColumnLinear(tensor_, width_, traffic);
    AddToStream(tensor_, width_, "mlp output", traffic);
  }

  void AddKernels(std::set<std::string>* names) const override {
    for (const Layer& layer : layers_) layer.mixer->AddKernels(names);
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
  // With a state, the next tokens of what it has seen.
  Tensor RunLayer(const Layer& layer, const Tensor& x_nc, const ForwardContext& context,
                  MixerState* state = nullptr) const {
    const Tensor normed = RmsNorm(x_nc, layer.mixer_norm->working, epsilon_);
    const Tensor mixed = state == nullptr ? (*layer.mixer)(normed, context)
                                          : layer.mixer->Step(normed, context.layout, state);
    const Tensor y_nc = Add(x_nc, Dropped(mixed, layer.path + ".mixer", context));
    const Tensor z_nc = RmsNorm(y_nc, layer.mlp_norm->working, epsilon_);
    const std::vector<Tensor> gate_up_nf =
        ColumnLinear(tensor_, z_nc, context.layout.num_tokens(), {layer.gate, layer.up});
    const Tensor u_nf = SwiGlu(gate_up_nf[0], gate_up_nf[1]);
    const Tensor added = tensor_.ToStream(LinearOf(u_nf, *layer.down), "mlp output");
    return Add(y_nc, Dropped(added, layer.path + ".mlp", context));
  }

  Tensor Dropped(const Tensor& x_nc, absl::string_view where, const ForwardContext& context) const {
    if (!context.training || dropout_ == 0) return x_nc;
    return Dropout(x_nc, dropout_,
                   MakeRngKey(context.seed, absl::StrCat(where, ".dropout"), context.step),
                   tensor_.StreamLayout(context.layout));
  }

  const Parameter* Gain(const Scope& norm) const {
    return tensor_.DeclareOnStream(norm, "gain", {width_}, Init::Constant(1));
  }

  const TensorAxis tensor_;
  const std::shared_ptr<const SequenceAxis> sequence_;
  const int64_t width_, mlp_width_;
  const double dropout_, epsilon_;
  Parameter* embedding_ = nullptr;
  std::vector<Layer> layers_;
  const Parameter* final_norm_ = nullptr;
  const Parameter* head_ = nullptr;
};

}  // namespace

StatusOr<std::unique_ptr<Model>> MakeTransformer(const Params& params,
                                                 const ComponentConfig& config,
                                                 const DataShape& data, const ModelLayout& layout) {
  const int64_t vocab_size =
      params.Int("vocab_size") > 0 ? params.Int("vocab_size") : data.vocab_size;
  if (data.vocab_size == 0) {
    return absl::InvalidArgumentError("transformer: needs data made of tokens");
  }
  if (vocab_size < data.vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat("transformer: vocab_size = ", vocab_size,
                                                   " but the data has ", data.vocab_size,
                                                   " tokens"));
  }
  for (const auto& [name, size] :
       {std::pair("vocab_size", vocab_size), std::pair("mlp_width", params.Int("mlp_width"))}) {
    if (size >= layout.tensor.size) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "transformer: ", name, " = ", size, " cannot be cut over tensor=", layout.tensor.size));
  }
  const std::string& pattern = params.String("layers");
  if (pattern.empty()) return absl::InvalidArgumentError("transformer: layers is empty");
  for (const auto& [letter, part] : config.parts) {
    if (letter.size() != 1 || pattern.find(letter) == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("transformer: part '", letter,
                                                     "' is no letter of layers = '", pattern, "'"));
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
  auto model = std::make_unique<Transformer>(params, layout);
  RETURN_IF_ERROR(model->Declare(params, mixers, vocab_size));
  return model;
}

}  // namespace trireme
