#include "models/mlp.h"

#include <gtest/gtest.h>

#include "core/autograd/backward.h"
#include "core/module/gradient_buffers.h"
#include "core/ops/ops.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

// Three samples of 2 x 3 values and four classes.
HostBatch Images() {
  HostBatch host;
  host.feature_shape = {2, 3};
  for (int i = 0; i < 18; ++i) host.features.push_back(0.1f * static_cast<float>(i * i % 7) - 0.2f);
  host.labels = {3, 0, 2};
  host.segments = {{10, 0, 1}, {11, 0, 1}, {12, 0, 1}};
  return host;
}

std::unique_ptr<Model> Make(const ParamMap& params, Device& device) {
  auto model = MakeModel({"mlp", params, {}}, {.num_features = 6, .num_classes = 4});
  EXPECT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE((*model)->parameters().Materialize(device, DType::kF64, 3).ok());
  return *std::move(model);
}

TEST(MlpTest, FollowsItsDefinition) {
  auto device = testing::MakeTestDevice();
  const std::unique_ptr<Model> model = Make({{"hidden", "5"}, {"activation", "tanh"}}, *device);
  const auto value = [&](const char* path) {
    return model->parameters().Find(path)->working.Detach();
  };
  const Batch batch = ToDevice(Images(), *device);
  const NoGrad no_grad;
  const Tensor x = To(Reshape(batch.inputs, {3, 6}), DType::kF64);
  const Tensor h = Tanh(Linear(x, value("layers.0.weight"), value("layers.0.bias")));
  const Tensor logits = Linear(h, value("layers.1.weight"), value("layers.1.bias"));
  EXPECT_EQ(ForwardLogits(*model, batch, {}).ToVector(), logits.ToVector());
  EXPECT_DOUBLE_EQ(ForwardLoss(*model, batch, {}).Item(),
                   CrossEntropy(logits, batch.labels).Item());
}

TEST(MlpTest, EveryParameterGetsAGradientForEveryActivation) {
  auto device = testing::MakeTestDevice();
  for (const char* activation : {"relu", "gelu", "silu", "tanh"}) {
    const std::unique_ptr<Model> model =
        Make({{"hidden", "7,5"}, {"activation", activation}, {"dropout", "0.2"}}, *device);
    GradientBuffers gradients(model->parameters(), *device);
    const Batch batch = ToDevice(Images(), *device);
    ForwardContext context{batch.layout, 0, true, 1};
    Backward({ForwardLoss(*model, batch, context)}, {Tensor()}, gradients);
    const auto& parameters = model->parameters().parameters();
    ASSERT_EQ(parameters.size(), 6u);
    for (size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_FALSE(gradients.Open(parameters[i]->working).fresh) << parameters[i]->spec.path;
    }
  }
}

TEST(MlpTest, WrongConfigsAreRefusedByName) {
  const auto error = [](const ParamMap& params, const DataShape& data) {
    return std::string(MakeModel({"mlp", params, {}}, data).status().message());
  };
  EXPECT_EQ(error({}, {.vocab_size = 9}), "mlp: needs data made of features and classes");
  EXPECT_EQ(error({{"hidden", "5,x"}}, {0, 6, 4}), "mlp: hidden has no width 'x'");
  EXPECT_EQ(error({{"activation", "rlu"}}, {0, 6, 4}),
            "mlp: unknown value of activation 'rlu'; did you mean 'relu'?");
}

}  // namespace
}  // namespace trireme
