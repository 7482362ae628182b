// Layers of linear attention against public implementations in PyTorch: outputs, the gradient of
// the input and of every parameter, over packed documents. write_attention.py says what each case
// is compared with.
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_cat.h"

#include "core/autograd/backward.h"
#include "core/autograd/graph_cut.h"
#include "core/module/gradient_buffers.h"
#include "models/attention/token_mixer.h"
#include "tests/golden/golden.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

using testing::Golden;
using testing::RelativeError;

struct GoldenMixer {
  std::string name;
  std::string entry;
  ParamMap params;
};
std::ostream& operator<<(std::ostream& out, const GoldenMixer& c) { return out << c.name; }

std::vector<GoldenMixer> GoldenMixers() {
  const auto linear = [](const char* map, const char* normalize, const char* norm) -> ParamMap {
    return {{"heads", "2"}, {"feature_map", map}, {"normalize", normalize}, {"output_norm", norm}};
  };
  const auto kda = [](const char* lower_bound) -> ParamMap {
    return {{"heads", "4"},
            {"key_heads", "2"},
            {"head_width", "8"},
            {"expand_v", "0.75"},
            {"lower_bound", lower_bound}};
  };
  const auto mamba2 = [](const char* groups) -> ParamMap {
    return {{"head_width", "8"}, {"state_width", "5"}, {"groups", groups}};
  };
  return {
      {"linear", "linear", linear("elu_1", "true", "false")},
      {"linear_relu", "linear", linear("relu", "false", "true")},
      {"linear_taylor", "linear", linear("taylor", "true", "false")},
      {"linear_dpfp", "linear", linear("dpfp", "false", "false")},
      {"linear_hedgehog", "linear", linear("hedgehog", "true", "false")},
      {"lightning", "lightning", {{"heads", "2"}}},
      {"retention", "retention", {{"heads", "2"}}},
      {"gla", "gla", {{"heads", "2"}, {"gate_rank", "3"}}},
      {"hgrn2", "hgrn2", {{"expand_ratio", "8"}}},
      {"mamba2", "mamba2", mamba2("1")},
      {"mamba2_groups", "mamba2", mamba2("2")},
      {"deltanet", "deltanet", {{"heads", "2"}}},
      {"deltanet_negative", "deltanet", {{"heads", "2"}, {"negative_eigenvalues", "true"}}},
      {"gated_deltanet",
       "gated_deltanet",
       {{"heads", "4"}, {"key_heads", "2"}, {"head_width", "4"}, {"expand_v", "1.5"}}},
      {"kda", "kda", kda("0")},
      {"kda_bounded", "kda", kda("-5")},
      {"mom",
       "mom",
       {{"heads", "2"},
        {"head_width", "4"},
        {"expand_v", "1.5"},
        {"memories", "3"},
        {"balance", "0"}}},
      {"rwkv7",
       "rwkv7",
       {{"head_width", "8"}, {"decay_rank", "3"}, {"rate_rank", "2"}, {"gate_rank", "3"}}},
  };
}

TokenLayout GoldenLayout(Device& device) {
  HostBatch host;
  host.segments = {{0, 0, 26}, {1, 0, 8}};
  host.documents = {{0, 0, 5}, {0, 5, 1}, {0, 6, 20}, {1, 0, 3}, {1, 3, 5}};
  host.tokens.resize(34);
  host.labels.resize(34);
  return ToDevice(host, device).layout;
}

class AttentionGoldenTest : public ::testing::TestWithParam<GoldenMixer> {
 protected:
  void ExpectPyTorch(DType dtype, double tolerance);

  const std::unique_ptr<Device> device_ = testing::MakeTestDevice();
  const Golden golden_{"attention", *device_};
};

void AttentionGoldenTest::ExpectPyTorch(DType dtype, double tolerance) {
  const GoldenMixer& c = GetParam();
  const auto* entry = *FindEntry("attention", Attentions(), c.entry);
  const Params params = *Params::Create(c.entry, entry->params, c.params);
  MixerShape shape;
  shape.width = 16;
  shape.norm_epsilon = 1e-5;
  shape.sequence = std::make_shared<SequenceAxis>();
  shape.layer = 1;
  shape.num_layers = 4;
  ParameterSet parameters;
  const auto mixer = entry->factory(params, shape, Scope(parameters));
  ASSERT_TRUE(mixer.ok()) << mixer.status();
  ASSERT_TRUE(parameters.Materialize(*device_, dtype, /*seed=*/1).ok());
  const std::string prefix = c.name + ".";
  EXPECT_EQ(parameters.parameters().size(), golden_.Names(prefix + "grad.").size());
  for (const auto& parameter : parameters.parameters()) {
    parameter->owned.CopyFrom(golden_.Read(prefix + "weight." + parameter->spec.path, dtype));
    parameter->RefreshWorking();
  }
  ForwardContext context;
  context.layout = GoldenLayout(*device_);
  GradientBuffers gradients(parameters, *device_);
  GraphCut x(golden_.Read("x", dtype));
  const Tensor y = (**mixer)(x.tensor(), context);
  Backward({y}, {golden_.Read("dy", dtype)}, gradients);
  EXPECT_LT(RelativeError(y.Detach(), golden_.Read(prefix + "y")), tolerance);
  EXPECT_LT(RelativeError(x.TakeGrad(), golden_.Read(prefix + "dx")), tolerance);
  for (int i = 0; i < gradients.size(); ++i) {
    const std::string& path = parameters.parameters()[i]->spec.path;
    EXPECT_LT(RelativeError(gradients.gradient(i), golden_.Read(prefix + "grad." + path)),
              tolerance)
        << path;
  }
}

INSTANTIATE_TEST_SUITE_P(Mixers, AttentionGoldenTest, ::testing::ValuesIn(GoldenMixers()),
                         [](const auto& info) { return info.param.name; });

TEST_P(AttentionGoldenTest, EqualsPyTorchInF64) { ExpectPyTorch(DType::kF64, 1e-11); }
TEST_P(AttentionGoldenTest, EqualsPyTorchInF32) { ExpectPyTorch(DType::kF32, 1e-4); }

TEST(AttentionGoldenFileTest, EveryCaseOfTheFileIsCompared) {
  const auto device = testing::MakeTestDevice();
  std::set<std::string> stored, compared;
  for (const std::string& name : Golden("attention", *device).Names("")) {
    if (name != "x" && name != "dy") stored.insert(name.substr(0, name.find('.')));
  }
  for (const GoldenMixer& c : GoldenMixers()) compared.insert(c.name);
  EXPECT_EQ(stored, compared);
}

}  // namespace
}  // namespace trireme
