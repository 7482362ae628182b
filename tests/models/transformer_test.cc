#include "models/transformer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/autograd/backward.h"
#include "core/module/gradient_buffers.h"
#include "core/ops/ops.h"
#include "tests/testing/batches.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

using testing::PackedDocuments;

constexpr int64_t kVocab = 23;

ComponentConfig Config(const ParamMap& params = {}, const ParamMap& mixer = {}) {
  ComponentConfig config{
      "transformer",
      {{"width", "12"}, {"num_layers", "2"}, {"mlp_width", "10"}, {"init_stddev", "0.3"}},
      {{"S", {"softmax", {{"heads", "4"}, {"kv_heads", "2"}, {"head_width", "6"}}, {}}}}};
  for (const auto& [key, value] : params) config.params[key] = value;
  for (const auto& [key, value] : mixer) config.parts["S"].params[key] = value;
  return config;
}

std::unique_ptr<Model> Make(const ComponentConfig& config, Device& device,
                            DType dtype = DType::kF64) {
  auto model = MakeModel(config, {.vocab_size = kVocab});
  EXPECT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE((*model)->parameters().Materialize(device, dtype, 3).ok());
  return *std::move(model);
}

ForwardContext Training(const Batch& batch) {
  ForwardContext context;
  context.layout = batch.layout;
  context.training = true;
  context.seed = 5;
  return context;
}

double LossOf(Model& model, const HostBatch& host, Device& device) {
  const NoGrad no_grad;
  const Batch batch = ToDevice(host, device);
  return ForwardLoss(model, batch, Training(batch)).Item();
}

const std::vector<std::vector<int64_t>> kRagged = {{3, 5, 1}, {7}, {1, 1, 4}};

// The gradient of every parameter against the slope of the whole loss along a random direction.
void ExpectGradients(const ComponentConfig& config) {
  auto device = testing::MakeTestDevice();
  const std::unique_ptr<Model> model = Make(config, *device);
  const HostBatch host = PackedDocuments(kRagged, kVocab, 1);
  GradientBuffers gradients(model->parameters(), *device);
  {
    const Batch batch = ToDevice(host, *device);
    const Tensor loss = ForwardLoss(*model, batch, Training(batch));
    Backward({loss}, {Tensor()}, gradients);
  }
  const auto& parameters = model->parameters().parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensor p = parameters[i]->owned;
    const std::vector<double> start = p.ToVector(), grad = gradients.gradient(i).ToVector();
    const RngKey key = MakeRngKey(9, parameters[i]->spec.path);
    const auto loss_at = [&](double step) {
      std::vector<double> moved = start;
      for (size_t k = 0; k < moved.size(); ++k) moved[k] += step * NormalAt(key, k);
      p.CopyFrom(Tensor::FromVector(*device, p.shape(), moved, DType::kF64));
      return LossOf(*model, host, *device);
    };
    const double h = 1e-4;
    const double coarse = (loss_at(h) - loss_at(-h)) / (2 * h);
    const double fine = (loss_at(h / 2) - loss_at(-h / 2)) / h;
    const double slope = (4 * fine - coarse) / 3;
    loss_at(0);
    double expected = 0;
    for (size_t k = 0; k < grad.size(); ++k) expected += grad[k] * NormalAt(key, k);
    EXPECT_NEAR(expected, slope, 1e-7 * std::max(1.0, std::abs(slope))) << parameters[i]->spec.path;
    EXPECT_NE(slope, 0) << parameters[i]->spec.path;
  }
}

TEST(TransformerTest, GradientsPlain) { ExpectGradients(Config()); }
TEST(TransformerTest, GradientsTied) { ExpectGradients(Config({{"tied_head", "true"}})); }
TEST(TransformerTest, GradientsDropout) { ExpectGradients(Config({{"dropout", "0.3"}})); }
TEST(TransformerTest, GradientsQkNormWindow) {
  ExpectGradients(Config({}, {{"qk_norm", "true"}, {"window", "3"}}));
}

ComponentConfig Hybrid() {
  ComponentConfig config = Config(
      {{"layers", "LLLS"}, {"num_layers", "4"}, {"norm_epsilon", "1e-2"}, {"dropout", "0.2"}});
  config.parts["L"] = {
      "gated_deltanet", {{"heads", "2"}, {"head_width", "4"}, {"expand_v", "1"}}, {}};
  return config;
}
TEST(TransformerTest, GradientsHybrid) { ExpectGradients(Hybrid()); }

TEST(TransformerTest, AHybridLearns) {
  auto device = testing::MakeTestDevice();
  const std::unique_ptr<Model> model = Make(Hybrid(), *device);
  const HostBatch host = PackedDocuments(kRagged, kVocab, 1);
  const double before = LossOf(*model, host, *device);
  for (int step = 0; step < 20; ++step) {
    const Batch batch = ToDevice(host, *device);
    GradientBuffers gradients(model->parameters(), *device);
    const Tensor loss = ForwardLoss(*model, batch, Training(batch), /*recompute=*/step % 2 == 1);
    Backward({loss}, {Tensor()}, gradients);
    for (int i = 0; i < gradients.size(); ++i) {
      model->parameters().parameters()[i]->owned.Accumulate(gradients.gradient(i), -0.02);
    }
  }
  EXPECT_LT(LossOf(*model, host, *device), 0.5 * before);
}

// Two prompts, then tokens by greedy choice: the scores of every step are those of the whole.
TEST(TransformerTest, GenerationByStepsEqualsTheParallelForm) {
  auto device = testing::MakeTestDevice();
  ComponentConfig config = Config({{"layers", "GSKRM"}, {"num_layers", "5"}}, {{"window", "4"}});
  config.parts["G"] = {"gated_deltanet", {{"heads", "2"}, {"head_width", "4"}}, {}};
  config.parts["K"] = {"gla", {{"heads", "2"}}, {}};
  config.parts["R"] = {"rwkv7", {{"head_width", "4"}}, {}};
  config.parts["M"] = {"mom", {{"heads", "2"}, {"head_width", "4"}, {"memories", "3"}}, {}};
  const std::unique_ptr<Model> model = Make(config, *device);
  HostBatch whole = PackedDocuments({{5}, {3}}, kVocab, 1);
  std::vector<std::vector<int32_t>> tokens = {{whole.tokens.begin(), whole.tokens.begin() + 5},
                                              {whole.tokens.begin() + 5, whole.tokens.end()}};
  std::vector<std::vector<double>> scores(2);
  std::unique_ptr<StepState> state;
  std::vector<int64_t> seen = {0, 0};
  for (int step = 0; step < 20; ++step) {
    HostBatch next;
    for (int i = 0; i < 2; ++i) {
      const auto length = static_cast<int64_t>(tokens[i].size());
      next.segments.push_back({i, seen[i], length - seen[i]});
      next.tokens.insert(next.tokens.end(), tokens[i].begin() + seen[i], tokens[i].end());
      seen[i] = length;
    }
    next.documents = next.segments;
    next.labels.assign(next.tokens.size(), kIgnoredLabel);
    const std::vector<double> logits =
        model->StepLogits(ToDevice(next, *device), &state).ToVector();
    auto row = logits.begin();
    for (int i = 0; i < 2; ++i) {
      const auto end = row + next.segments[i].length * kVocab;
      scores[i].insert(scores[i].end(), row, end);
      tokens[i].push_back(
          static_cast<int32_t>(std::max_element(end - kVocab, end) - (end - kVocab)));
      row = end;
    }
  }
  whole = HostBatch();
  for (int i = 0; i < 2; ++i) {
    whole.segments.push_back({i, 0, seen[i]});
    whole.tokens.insert(whole.tokens.end(), tokens[i].begin(), tokens[i].begin() + seen[i]);
  }
  whole.documents = whole.segments;
  whole.labels.assign(whole.tokens.size(), kIgnoredLabel);
  const NoGrad no_grad;
  const Batch batch = ToDevice(whole, *device);
  ForwardContext context;
  context.layout = batch.layout;
  const std::vector<double> expected = ForwardLogits(*model, batch, context).ToVector();
  scores[0].insert(scores[0].end(), scores[1].begin(), scores[1].end());
  ASSERT_EQ(scores[0].size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(scores[0][i], expected[i], 1e-11) << i;
}

TEST(TransformerTest, PackedDocumentsDoNotSeeEachOther) {
  auto device = testing::MakeTestDevice();
  const std::unique_ptr<Model> model = Make(Config(), *device);
  const HostBatch packed = PackedDocuments({{3, 5, 2}}, kVocab, 1);
  double apart = 0;
  int64_t begin = 0;
  for (const int64_t length : {3, 5, 2}) {
    HostBatch one;
    one.tokens.assign(packed.tokens.begin() + begin, packed.tokens.begin() + begin + length);
    one.labels.assign(packed.labels.begin() + begin, packed.labels.begin() + begin + length);
    one.segments = one.documents = {{0, begin, length}};
    apart += LossOf(*model, one, *device);
    begin += length;
  }
  EXPECT_NEAR(LossOf(*model, packed, *device), apart, 1e-12 * std::abs(apart));
}

// What a rank of the sequence axis has of samples that are shorter than the axis.
TEST(TransformerTest, NoTokensGiveZeroGradients) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const char* tied : {"false", "true"}) {
      auto device = testing::MakeTestDevice();
      const std::unique_ptr<Model> model = Make(
          Config({{"dropout", "0.2"}, {"tied_head", tied}}, {{"qk_norm", "true"}}), *device, dtype);
      const Batch batch = ToDevice(HostBatch(), *device);
      for (const bool recompute : {false, true}) {
        GradientBuffers gradients(model->parameters(), *device);
        const Tensor loss = ForwardLoss(*model, batch, Training(batch), recompute);
        EXPECT_EQ(loss.Item(), 0);
        Backward({loss}, {Tensor()}, gradients);
        for (int i = 0; i < gradients.size(); ++i) {
          gradients.ZeroIfUntouched(i);
          for (const double g : gradients.gradient(i).ToVector()) ASSERT_EQ(g, 0);
        }
      }
    }
  }
}

TEST(TransformerTest, RecomputationGivesTheSameGradients) {
  auto device = testing::MakeTestDevice();
  const std::unique_ptr<Model> model = Make(Config({{"dropout", "0.2"}}), *device);
  const Batch batch = ToDevice(PackedDocuments(kRagged, kVocab, 1), *device);
  GradientBuffers plain(model->parameters(), *device), again(model->parameters(), *device);
  for (const bool recompute : {false, true}) {
    const Tensor loss = ForwardLoss(*model, batch, Training(batch), recompute);
    Backward({loss}, {Tensor()}, recompute ? again : plain);
  }
  for (int i = 0; i < plain.size(); ++i) {
    EXPECT_EQ(plain.gradient(i).ToVector(), again.gradient(i).ToVector());
  }
}

TEST(TransformerTest, LossIsTheCrossEntropyOfTheLogits) {
  auto device = testing::MakeTestDevice();
  const std::unique_ptr<Model> model = Make(Config(), *device);
  const NoGrad no_grad;
  const Batch batch = ToDevice(PackedDocuments(kRagged, kVocab, 1), *device);
  const Tensor logits = ForwardLogits(*model, batch, Training(batch));
  EXPECT_EQ(logits.shape(), Shape({batch.inputs.dim(0), kVocab}));
  const double loss = ForwardLoss(*model, batch, Training(batch)).Item();
  EXPECT_NEAR(loss, CrossEntropy(logits, batch.labels).Item(), 1e-12 * loss);
}

TEST(TransformerTest, NearUniformAtTheStart) {
  auto device = testing::MakeTestDevice();
  const std::unique_ptr<Model> model =
      Make(Config({{"init_stddev", "0.02"}}), *device, DType::kF32);
  const HostBatch host = PackedDocuments(kRagged, kVocab, 1);
  const Batch batch = ToDevice(host, *device);
  EXPECT_NEAR(LossOf(*model, host, *device) / batch.num_targets, std::log(kVocab), 0.05);
}

TEST(TransformerTest, FlopsCountTheMatrixProductsAndHalfTheAttentionSquare) {
  auto model = MakeModel(Config(), {.vocab_size = kVocab});
  TokenLayout layout;
  layout.segments = {{0, 0, 10}};
  const double projections = 2.0 * 10 * 12 * 6 * (4 + 2 + 2 + 4), attention = 4 * 50.0 * 4 * 6;
  const double mlp = 3 * 2.0 * 10 * 12 * 10, head = 2.0 * 10 * kVocab * 12;
  EXPECT_EQ((*model)->ForwardFlops(layout), 2 * (projections + attention + mlp) + head);
}

std::string ErrorOf(const ComponentConfig& config) {
  return std::string(MakeModel(config, {.vocab_size = kVocab}).status().message());
}

TEST(TransformerTest, WrongConfigsAreRefusedByName) {
  EXPECT_EQ(ErrorOf(Config({}, {{"kv_heads", "3"}})),
            "softmax: kv_heads = 3 does not divide heads = 4");
  EXPECT_EQ(ErrorOf(Config({}, {{"head_width", "0"}, {"heads", "5"}, {"kv_heads", "0"}})),
            "softmax: heads = 5 does not divide width = 12");
  EXPECT_EQ(ErrorOf(Config({}, {{"head_width", "5"}})),
            "softmax: rotary positions need an even head_width, not 5");
  EXPECT_EQ(ErrorOf(Config({{"layers", "SL"}})),
            "transformer: layers = 'SL' needs a part 'L' that says its mixer");
  EXPECT_EQ(ErrorOf(Config({{"layers", "L"}})),
            "transformer: part 'S' is no letter of layers = 'L'");
  EXPECT_EQ(ErrorOf(Config({{"vocab_size", "7"}})),
            "transformer: vocab_size = 7 but the data has 23 tokens");
  EXPECT_EQ(ErrorOf(Config({{"widht", "7"}})),
            "transformer: unknown parameter 'widht'; did you mean 'width'?");
  ComponentConfig wrong_mixer = Config();
  wrong_mixer.parts["S"].name = "sofmax";
  EXPECT_EQ(ErrorOf(wrong_mixer), "unknown attention 'sofmax'; did you mean 'softmax'?");
}

}  // namespace
}  // namespace trireme
