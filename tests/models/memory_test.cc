// What a layer keeps for backward, against the closed form of docs/memory.md.
#include <gtest/gtest.h>

#include "core/autograd/backward.h"
#include "core/module/gradient_buffers.h"
#include "models/models.h"
#include "tests/testing/batches.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

constexpr int64_t kWidth = 64, kHeads = 4, kKvHeads = 2, kHeadWidth = 16, kMlp = 96, kVocab = 50;
constexpr int64_t kTokens = 1000;

std::unique_ptr<Model> Make(int num_layers, Device& device) {
  const auto text = [](int64_t value) { return std::to_string(value); };
  auto model = MakeModel(
      {"transformer",
       {{"width", text(kWidth)}, {"num_layers", text(num_layers)}, {"mlp_width", text(kMlp)}},
       {{"S", {"softmax", {{"heads", text(kHeads)}, {"kv_heads", text(kKvHeads)}}, {}}}}},
      {.vocab_size = kVocab});
  EXPECT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE((*model)->parameters().Materialize(device, DType::kF32, 1).ok());
  return *std::move(model);
}

// Bytes of activations that the graph of a forward pass holds.
int64_t HeldAfterForward(int num_layers, bool recompute) {
  auto device = testing::MakeTestDevice();
  const std::unique_ptr<Model> model = Make(num_layers, *device);
  const Batch batch = ToDevice(testing::PackedDocuments({{400, 100}, {500}}, kVocab, 1), *device);
  const int kind = static_cast<int>(MemoryKind::kActivations);
  const int64_t before = device->stats().current_bytes[kind];
  ForwardContext context;
  context.layout = batch.layout;
  context.training = true;
  const Tensor loss = ForwardLoss(*model, batch, context, recompute);
  return device->stats().current_bytes[kind] - before;
}

TEST(MemoryTest, ALayerKeepsWhatTheClosedFormSays) {
  const int64_t per_token =
      4 * kWidth + 2 * kHeads * kHeadWidth + 2 * kKvHeads * kHeadWidth + 3 * kMlp + kHeads + 2;
  const int64_t key_ranges = 2 * 4;  // Begin and end of each query's keys, i32.
  const int64_t a_layer = HeldAfterForward(3, false) - HeldAfterForward(2, false);
  EXPECT_LE(a_layer, kTokens * (4 * per_token + key_ranges) + 1024);
  EXPECT_GE(a_layer, kTokens * 4 * per_token);
}

TEST(MemoryTest, ARecomputedLayerKeepsItsInputOnly) {
  const int64_t a_layer = HeldAfterForward(3, true) - HeldAfterForward(2, true);
  EXPECT_EQ(a_layer, kTokens * 4 * kWidth);
}

// Peak of a step: what is held after the forward pass, and the few gradients in flight on top of
// it.
TEST(MemoryTest, BackwardAddsAFewTransients) {
  auto device = testing::MakeTestDevice();
  const std::unique_ptr<Model> model = Make(4, *device);
  GradientBuffers gradients(model->parameters(), *device);
  const Batch batch = ToDevice(testing::PackedDocuments({{400, 100}, {500}}, kVocab, 1), *device);
  ForwardContext context;
  context.layout = batch.layout;
  Tensor loss = ForwardLoss(*model, batch, context);
  const int kind = static_cast<int>(MemoryKind::kActivations);
  const int64_t held = device->stats().current_bytes[kind];
  device->ResetPeaks();
  Backward({loss}, {Tensor()}, gradients);
  EXPECT_LE(device->stats().peak_bytes[kind], held * 1.15);
  loss = Tensor();
  EXPECT_LE(device->stats().current_bytes[kind], held / 10);
}

TEST(MemoryTest, SteadyStepsTakeNothingFromTheSystem) {
  auto device = testing::MakeTestDevice();
  const std::unique_ptr<Model> model = Make(2, *device);
  GradientBuffers gradients(model->parameters(), *device);
  int64_t after_two = 0;
  for (int step = 0; step < 6; ++step) {
    const Batch batch =
        ToDevice(testing::PackedDocuments({{400, 100}, {500}}, kVocab, step), *device);
    ForwardContext context;
    context.layout = batch.layout;
    gradients.Reset();
    Backward({ForwardLoss(*model, batch, context)}, {Tensor()}, gradients);
    if (step == 1) after_two = device->stats().system_allocations;
  }
  EXPECT_EQ(device->stats().system_allocations, after_two);
}

}  // namespace
}  // namespace trireme
