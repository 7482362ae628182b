// A 2-layer transformer against PyTorch: logits, loss, every gradient, and the losses of three
// AdamW steps, in f64 and f32. write_transformer.py builds the same model.
#include <gtest/gtest.h>

#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "core/autograd/backward.h"
#include "core/module/gradient_buffers.h"
#include "models/models.h"
#include "optim/parameter_update.h"
#include "tests/golden/golden.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

using testing::Golden;
using testing::RelativeError;

StatusOr<std::unique_ptr<Model>> MakeGoldenModel(bool tied_and_qk_norm) {
  const std::string flag = tied_and_qk_norm ? "true" : "false";
  ComponentConfig config{
      "transformer",
      {{"width", "32"}, {"num_layers", "2"}, {"mlp_width", "48"}, {"tied_head", flag}},
      {}};
  config.parts["S"] = {"softmax", {{"heads", "4"}, {"kv_heads", "2"}, {"qk_norm", flag}}, {}};
  return MakeModel(config, {.vocab_size = 61});
}

Batch ReadBatch(const Golden& golden) {
  Batch batch;
  batch.inputs = golden.Read("batch.tokens");
  batch.labels = golden.Read("batch.labels");
  batch.layout.segments = {{0, 0, 13}, {1, 0, 8}};
  batch.layout.axis_segments = {batch.layout.segments};
  batch.layout.documents = {{0, 0, 5}, {0, 5, 1}, {0, 6, 7}, {1, 0, 3}, {1, 3, 5}};
  batch.layout.position = golden.Read("batch.position");
  for (const double label : batch.labels.ToVector()) batch.num_targets += label >= 0;
  return batch;
}

struct Precision {
  DType dtype;
  const char* label;
  double forward, gradient;  // Tolerances, against the largest element.
};

class TransformerGoldenTest : public ::testing::TestWithParam<std::tuple<bool, Precision>> {};

TEST_P(TransformerGoldenTest, EqualsPyTorch) {
  const auto& [tied_and_qk_norm, precision] = GetParam();
  const std::string prefix =
      absl::StrCat(tied_and_qk_norm ? "tied_qk_norm." : "untied.", precision.label, ".");
  const auto device = testing::MakeTestDevice({.num_threads = 2});
  const Golden golden("transformer", *device);
  auto made = MakeGoldenModel(tied_and_qk_norm);
  ASSERT_TRUE(made.ok()) << made.status();
  Model& model = **made;
  ASSERT_TRUE(model.parameters().Materialize(*device, precision.dtype, /*seed=*/1).ok());
  const auto& parameters = model.parameters().parameters();
  EXPECT_EQ(parameters.size(), golden.Names(prefix + "grad.").size());
  for (const auto& parameter : parameters) {
    parameter->owned.CopyFrom(golden.Read("weight." + parameter->spec.path, precision.dtype));
    parameter->RefreshWorking();
  }

  const Batch batch = ReadBatch(golden);
  ForwardContext context;
  context.layout = batch.layout;
  context.training = true;
  {
    const NoGrad no_grad;
    EXPECT_LT(RelativeError(ForwardLogits(model, batch, context), golden.Read(prefix + "logits")),
              precision.forward);
  }

  const UnitTensors flat(UnitsOf(model.parameters()), WorkingShapes(model.parameters()), *device,
                         MasterType(model.parameters()), MemoryKind::kGradients, "gradients");
  GradientBuffers gradients(model.parameters(), flat);
  auto update = ParameterUpdate::Create(
      model.parameters(),
      {{"*", *MakeOptimizer("adamw", {{"beta2", "0.95"}, {"weight_decay", "0.1"}})}});
  ASSERT_TRUE(update.ok()) << update.status();
  const std::vector<double> losses = golden.Read(prefix + "losses").ToVector();
  const double count = batch.num_targets;
  for (size_t step = 0; step < losses.size(); ++step) {
    // Recomputed layers must give the same numbers as saved ones.
    const Tensor loss = ForwardLoss(model, batch, context, /*recompute=*/step % 2 == 1);
    EXPECT_NEAR(loss.Item() / count, losses[step], (1 + step) * precision.forward * losses[0])
        << "step " << step;
    gradients.Reset();
    Backward({loss}, {Tensor()}, gradients);
    for (int i = 0; i < gradients.size(); ++i) gradients.ZeroIfUntouched(i);
    if (step == 0) {
      for (size_t i = 0; i < parameters.size(); ++i) {
        const std::string& path = parameters[i]->spec.path;
        EXPECT_LT(RelativeError(gradients.gradient(i), golden.Read(prefix + "grad." + path)),
                  precision.gradient)
            << path;
      }
    }
    update->Step(flat, /*learning_rate=*/1e-2, /*grad_scale=*/1 / count);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Variants, TransformerGoldenTest,
    ::testing::Combine(::testing::Bool(),
                       ::testing::Values(Precision{DType::kF64, "f64", 1e-12, 1e-12},
                                         Precision{DType::kF32, "f32", 1e-5, 1e-5})),
    [](const auto& info) {
      return absl::StrCat(std::get<0>(info.param) ? "TiedQkNorm" : "Untied",
                          std::get<1>(info.param).dtype == DType::kF64 ? "F64" : "F32");
    });

}  // namespace
}  // namespace trireme
