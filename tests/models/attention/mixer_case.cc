#include "tests/models/attention/mixer_case.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"

#include "core/base/log.h"
#include "tests/testing/batches.h"

namespace trireme::testing {

std::vector<MixerCase> MixerCases() {
  const auto delta = [](ParamMap params) {
    params.insert({{"heads", "4"}, {"head_width", "4"}, {"conv_size", "3"}});
    return params;
  };
  return {
      {"Softmax", "softmax", {{"heads", "4"}, {"kv_heads", "2"}, {"qk_norm", "true"}}},
      {"SoftmaxWindow", "softmax", {{"heads", "4"}, {"window", "3"}}},
      {"Linear", "linear", {{"heads", "4"}}},
      {"LinearUnnormalized",
       "linear",
       {{"heads", "4"},
        {"feature_map", "identity"},
        {"normalize", "false"},
        {"output_norm", "true"},
        {"expand_v", "1.5"}}},
      {"LinearHedgehog", "linear", {{"heads", "4"}, {"feature_map", "hedgehog"}}},
      {"LinearTaylor", "linear", {{"heads", "4"}, {"feature_map", "taylor"}, {"expand_k", "0.75"}}},
      {"LinearDpfp",
       "linear",
       {{"heads", "4"}, {"feature_map", "dpfp"}, {"normalize", "false"}, {"expand_k", "0.5"}}},
      {"LinearizedHedgehog", "linearized", {{"heads", "4"}, {"kv_heads", "2"}}},
      {"LinearizedLiger",
       "linearized",
       {{"heads", "4"}, {"form", "liger"}, {"window", "2"}, {"qk_norm", "true"}}},
      {"Lightning", "lightning", {{"heads", "4"}}},
      {"Retention", "retention", {{"heads", "4"}}},
      {"Gla", "gla", {{"heads", "4"}, {"expand_k", "0.75"}, {"gate_rank", "3"}}},
      {"Hgrn2", "hgrn2", {{"expand_ratio", "4"}}},
      {"Hgrn2Unbounded", "hgrn2", {{"expand_ratio", "4"}, {"lower_bound", "0"}}},
      {"Mamba2", "mamba2", {{"head_width", "8"}, {"state_width", "5"}, {"conv_size", "3"}}},
      {"Mamba2Groups",
       "mamba2",
       {{"head_width", "4"}, {"expand", "2"}, {"state_width", "3"}, {"groups", "4"}}},
      {"DeltaNet", "deltanet", {{"heads", "4"}, {"negative_eigenvalues", "true"}}},
      {"DeltaNetNoConv", "deltanet", {{"heads", "4"}, {"conv_size", "0"}}},
      {"GatedDeltaNet", "gated_deltanet", delta({{"key_heads", "2"}, {"expand_v", "1.5"}})},
      {"Kda", "kda", delta({})},
      {"KdaBounded", "kda", delta({{"key_heads", "2"}, {"lower_bound", "-5"}})},
      {"Mom", "mom", delta({{"memories", "3"}, {"expand_v", "1.5"}})},
      {"MomSingle", "mom",
       delta({{"memories", "4"},
              {"conv_size", "0"},
              {"single_kv", "true"},
              {"shared_memory", "false"}})},
      {"MomDeltaNet", "mom", delta({{"memories", "3"}, {"base", "deltanet"}})},
      {"MomLinear", "mom", delta({{"memories", "3"}, {"base", "linear"}, {"single_kv", "true"}})},
      {"Rwkv7",
       "rwkv7",
       {{"head_width", "4"}, {"decay_rank", "3"}, {"rate_rank", "2"}, {"gate_rank", "3"}}},
  };
}

const MixerCase& FindMixerCase(const std::string& name) {
  static const auto* cases = new std::vector<MixerCase>(MixerCases());
  const auto it = std::find_if(cases->begin(), cases->end(),
                               [&](const MixerCase& c) { return c.name == name; });
  CHECK(it != cases->end()) << name;
  return *it;
}

std::string MixerName(const ::testing::TestParamInfo<MixerCase>& info) { return info.param.name; }

MixerShape SmallShape(const TensorAxis& tensor, std::shared_ptr<const SequenceAxis> sequence) {
  MixerShape shape;
  shape.width = kMixerWidth;
  shape.init_stddev = shape.output_stddev = 0.3;
  shape.norm_epsilon = 1e-2;  // So that differences see no kinks where a head is nearly zero.
  shape.tensor = tensor;
  shape.sequence = std::move(sequence);
  shape.layer = 1;
  shape.num_layers = 3;
  return shape;
}

StatusOr<std::unique_ptr<TokenMixer>> MakeMixer(const std::string& entry, const ParamMap& params,
                                                const MixerShape& shape, const Scope& scope) {
  ASSIGN_OR_RETURN(const auto* found, FindEntry("attention", Attentions(), entry));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry, found->params, params));
  return found->factory(checked, shape, scope);
}

MixerUnderTest::MixerUnderTest(const MixerCase& c, Device& device, DType dtype,
                               const MixerShape& shape) {
  auto made = MakeMixer(c.entry, c.params, shape, Scope(parameters).Child("mixer"));
  CHECK(made.ok()) << made.status();
  mixer = *std::move(made);
  for (const auto& parameter : parameters.parameters()) {
    const std::string& path = parameter->spec.path;
    const double mean = absl::EndsWith(path, "gain") || absl::EndsWith(path, "k_k") ? 1 : 0;
    parameter->spec.init =
        Init::Function([mean](RngKey key, int64_t i) { return mean + 0.4 * NormalAt(key, i); });
  }
  ThrowIfError(parameters.Materialize(device, dtype, /*seed=*/7));
}

HostBatch RaggedDocuments() { return PackedDocuments({{3, 5, 1}, {7}, {1, 1, 4}}, 23, 1); }

TokenLayout LayoutOf(const HostBatch& host, Device& device) {
  return ToDevice(host, device).layout;
}

ForwardContext ContextOf(const TokenLayout& layout) {
  ForwardContext context;
  context.layout = layout;
  context.training = true;
  return context;
}

double Distance(const std::vector<double>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double largest = 0, distance = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(actual[i])) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(expected[i]));
    distance = std::max(distance, std::abs(actual[i] - expected[i]));
  }
  return distance == 0 ? 0 : distance / largest;
}

}  // namespace trireme::testing
