// Every entry of ATTENTION: gradients, documents apart, element types, no tokens, step by step; and
// no two of them do the same. Values are compared with other implementations in tests/golden.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/autograd/backward.h"
#include "core/module/gradient_buffers.h"
#include "core/ops/ops.h"
#include "tests/models/attention/mixer_case.h"
#include "tests/testing/batches.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::ContextOf;
using testing::Distance;
using testing::kMixerWidth;
using testing::LayoutOf;
using testing::MixerCase;
using testing::MixerUnderTest;
using testing::RaggedDocuments;
using testing::RandomTensor;

class MixerTest : public ::testing::TestWithParam<MixerCase> {
 protected:
  Tensor Input(int64_t n, DType dtype = DType::kF64) {
    return RandomTensor(*device_, {n, kMixerWidth}, 3, 1, dtype);
  }

  const std::unique_ptr<Device> device_ = testing::MakeTestDevice();
};

double RootMeanSquareDistance(const std::vector<double>& actual,
                              const std::vector<double>& expected) {
  double distance = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    distance += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(distance / size);
}

INSTANTIATE_TEST_SUITE_P(Cases, MixerTest, ::testing::ValuesIn(testing::MixerCases()),
                         testing::MixerName);

TEST_P(MixerTest, GradientsOfInputsAndParameters) {
  MixerUnderTest under_test(GetParam(), *device_);
  const TokenLayout layout = LayoutOf(testing::PackedDocuments({{3, 1}, {2}}, 23, 1), *device_);
  const auto& parameters = under_test.parameters.parameters();
  std::vector<Tensor> inputs = {Input(layout.num_tokens())};
  for (const auto& parameter : parameters) inputs.push_back(parameter->working.Detach());
  testing::ExpectGradientsMatch(
      [&](const std::vector<Tensor>& values) {
        for (size_t i = 0; i < parameters.size(); ++i) parameters[i]->working = values[i + 1];
        ForwardContext context = ContextOf(layout);
        context.training = false;  // Which adds losses of its own.
        return (*under_test.mixer)(values[0], context);
      },
      inputs, 1e-6, /*full_limit=*/0);
}

TEST_P(MixerTest, DocumentsDoNotSeeEachOther) {
  const MixerUnderTest under_test(GetParam(), *device_);
  const NoGrad no_grad;
  const HostBatch host = RaggedDocuments();
  const Tensor x = Input(static_cast<int64_t>(host.tokens.size()));
  const std::vector<double> packed =
      (*under_test.mixer)(x, ContextOf(LayoutOf(host, *device_))).ToVector();
  std::vector<double> apart;
  int64_t row = 0;
  for (const Segment& document : host.documents) {
    HostBatch alone;
    alone.tokens.resize(document.length);
    alone.labels.resize(document.length);
    alone.segments = alone.documents = {document};
    const Tensor rows = Slice(x, 0, row, document.length);
    const auto y = (*under_test.mixer)(rows, ContextOf(LayoutOf(alone, *device_))).ToVector();
    apart.insert(apart.end(), y.begin(), y.end());
    row += document.length;
  }
  EXPECT_LT(Distance(packed, apart), 1e-12);
}

// One call each for a prompt, tokens one by one, and several at once, of sequences that are not
// equally long.
TEST_P(MixerTest, StepsEqualTheParallelForm) {
  const MixerUnderTest under_test(GetParam(), *device_);
  const NoGrad no_grad;
  const HostBatch host = testing::PackedDocuments({{11}, {9}, {14}}, 23, 1);
  const Tensor x = Input(34);
  const std::vector<int64_t> first_row = {0, 11, 20};
  const std::vector<double> whole =
      (*under_test.mixer)(x, ContextOf(LayoutOf(host, *device_))).ToVector();
  std::vector<std::vector<double>> stepped(3);
  std::vector<int64_t> position(3, 0);
  MixerState state;
  std::set<int64_t> sizes;
  const std::vector<std::vector<int64_t>> calls = {{4, 1, 6}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1},
                                                   {1, 1, 1}, {1, 1, 1}, {0, 3, 2}, {2, 0, 1}};
  for (const std::vector<int64_t>& lengths : calls) {
    HostBatch call;
    std::vector<Tensor> rows;
    for (int i = 0; i < 3; ++i) {
      call.segments.push_back({i, position[i], lengths[i]});
      rows.push_back(Slice(x, 0, first_row[i] + position[i], lengths[i]));
      position[i] += lengths[i];
      for (int64_t t = 0; t < lengths[i]; ++t) call.tokens.push_back(0), call.labels.push_back(0);
    }
    call.documents = host.documents;
    const TokenLayout layout = LayoutOf(call, *device_);
    const std::vector<double> y =
        under_test.mixer->Step(Concat(rows, 0), layout, &state).ToVector();
    size_t next = 0;
    for (int i = 0; i < 3; ++i) {
      stepped[i].insert(stepped[i].end(), y.begin() + next,
                        y.begin() + next + lengths[i] * kMixerWidth);
      next += lengths[i] * kMixerWidth;
    }
    sizes.insert(state.bytes());
  }
  std::vector<double> all;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(position[i], host.segments[i].length);
    all.insert(all.end(), stepped[i].begin(), stepped[i].end());
  }
  EXPECT_LT(Distance(all, whole), 1e-12);
  EXPECT_EQ(sizes.size(), 1u) << "the state grew";
}

TEST_P(MixerTest, NarrowTypesAreNearF64) {
  const HostBatch host = RaggedDocuments();
  const auto n = static_cast<int64_t>(host.tokens.size());
  const auto run = [&](DType dtype) {
    const MixerUnderTest under_test(GetParam(), *device_, dtype);
    GradientBuffers sink(under_test.parameters, *device_);
    const Tensor y = (*under_test.mixer)(Input(n, dtype), ContextOf(LayoutOf(host, *device_)));
    Backward({y}, {RandomTensor(*device_, y.shape(), 5, 1, dtype)}, sink);
    std::vector<std::vector<double>> values = {y.ToVector()};
    for (int i = 0; i < sink.size(); ++i) values.push_back(sink.gradient(i).ToVector());
    return values;
  };
  const auto exact = run(DType::kF64), single = run(DType::kF32), half = run(DType::kBF16);
  for (size_t i = 0; i < exact.size(); ++i) {
    EXPECT_LT(RootMeanSquareDistance(single[i], exact[i]), 1e-4) << "result " << i;
    EXPECT_LT(RootMeanSquareDistance(half[i], exact[i]), 0.5) << "result " << i;
  }
  EXPECT_GT(RootMeanSquareDistance(half[0], exact[0]), 1e-4);
}

TEST_P(MixerTest, NoTokensGiveNothing) {
  MixerUnderTest under_test(GetParam(), *device_);
  GradientBuffers sink(under_test.parameters, *device_);
  Tensor x = Tensor::Zeros(*device_, {0, kMixerWidth}, DType::kF64);
  x.set_requires_grad();
  const Tensor y = (*under_test.mixer)(x, ContextOf(LayoutOf(HostBatch(), *device_)));
  EXPECT_EQ(y.shape(), Shape({0, kMixerWidth}));
}

TEST(MixersTest, EveryEntryHasACase) {
  std::set<std::string> entries, tested;
  for (const auto& entry : Attentions()) entries.insert(entry.name);
  for (const MixerCase& c : testing::MixerCases()) tested.insert(c.entry);
  EXPECT_EQ(tested, entries);
}

TEST(MixersTest, NoTwoEntriesDoTheSameWithTheSameWeights) {
  const auto device = testing::MakeTestDevice();
  const NoGrad no_grad;
  const TokenLayout layout = LayoutOf(RaggedDocuments(), *device);
  const Tensor x = RandomTensor(*device, {layout.num_tokens(), kMixerWidth}, 3);
  // Four heads of four channels in all of them, so that projections of one name are one weight.
  std::map<std::string, std::vector<double>> outputs;
  for (const MixerCase& c : std::vector<MixerCase>{
           {"", "softmax", {{"heads", "4"}}},
           {"", "linear", {{"heads", "4"}, {"output_norm", "true"}}},
           {"", "linearized", {{"heads", "4"}}},
           {"", "lightning", {{"heads", "4"}}},
           {"", "retention", {{"heads", "4"}, {"expand_v", "1"}}},
           {"", "gla", {{"heads", "4"}, {"expand_k", "1"}}},
           {"", "hgrn2", {{"expand_ratio", "4"}}},
           {"", "mamba2", {{"head_width", "4"}, {"expand", "1"}, {"state_width", "4"}}},
           {"", "deltanet", {{"heads", "4"}}},
           {"", "gated_deltanet", {{"heads", "4"}, {"head_width", "4"}, {"expand_v", "1"}}},
           {"", "kda", {{"heads", "4"}, {"head_width", "4"}}},
           {"", "mom", {{"heads", "4"}, {"head_width", "4"}, {"expand_v", "1"}}},
           {"", "rwkv7", {{"head_width", "4"}}},
       }) {
    const MixerUnderTest under_test(c, *device);
    outputs[c.entry] = (*under_test.mixer)(x, ContextOf(layout)).ToVector();
  }
  EXPECT_EQ(outputs.size(), Attentions().size());
  for (const auto& [name, y] : outputs) {
    for (const auto& [other, z] : outputs) {
      if (name == other) continue;
      EXPECT_GT(Distance(y, z), 1e-2) << name << " and " << other;
    }
  }
}

std::string ErrorOf(const std::string& entry, const ParamMap& params, int tensor = 1) {
  ParameterSet parameters;
  TensorAxis axis;
  axis.size = tensor;
  return std::string(testing::MakeMixer(entry, params, testing::SmallShape(axis), Scope(parameters))
                         .status()
                         .message());
}

TEST(MixersTest, WrongConfigsAreRefusedByName) {
  EXPECT_EQ(ErrorOf("linear", {{"feature_map", "elu"}}),
            "linear: unknown value of feature_map 'elu'; did you mean 'relu'?");
  EXPECT_EQ(ErrorOf("linear", {{"heads", "4"}, {"feature_map", "identity"}}),
            "linear: normalize needs weights that are not negative, which feature_map = identity "
            "does not give");
  EXPECT_EQ(ErrorOf("gla", {{"heads", "5"}}),
            "gla: heads = 5 do not divide expand_k = 0.5 times width = 16");
  EXPECT_EQ(ErrorOf("gla", {{"heads", "4"}, {"gate_divisor", "-16"}}),
            "gla: gate_divisor = -16 is outside >= 1e-06");
  EXPECT_EQ(ErrorOf("retention", {{"heads", "4"}, {"first_exponent", "-1"}}),
            "retention: first_exponent = -1 gives head 0 a decay of nan, not one in (0, 1]");
  EXPECT_EQ(ErrorOf("lightning", {{"heads", "4"}, {"slope_scale", "-1"}, {"slopes", "alibi"}}),
            "lightning: slope_scale = -1 gives head 0 a decay of 1.28403, not one in (0, 1]");
  EXPECT_EQ(ErrorOf("hgrn2", {{"expand_ratio", "4"}, {"lower_bound", "1"}}),
            "hgrn2: lower_bound = 1 of forget gates is not in [0, 1)");
  EXPECT_EQ(ErrorOf("hgrn2", {}), "hgrn2: expand_ratio = 128 does not divide width = 16");
  EXPECT_EQ(ErrorOf("mamba2", {{"head_width", "5"}}),
            "mamba2: head_width = 5 does not divide 32 channels");
  EXPECT_EQ(ErrorOf("mamba2", {{"head_width", "8"}, {"groups", "3"}}),
            "mamba2: 3 key heads do not divide heads = 4");
  EXPECT_EQ(ErrorOf("mamba2", {{"head_width", "8"}, {"groups", "2"}}, /*tensor=*/4),
            "mamba2: a norm over 2 groups cannot be cut over tensor=4");
  for (const char* entry : {"deltanet", "gated_deltanet", "kda"}) {
    EXPECT_EQ(ErrorOf(entry, {{"key_norm", "none"}}),
              std::string(entry) +
                  ": the delta rule needs normalized keys, or its states grow from "
                  "token to token; key_norm = none");
  }
  EXPECT_EQ(ErrorOf("gated_deltanet", {{"heads", "4"}, {"key_heads", "3"}}),
            "gated_deltanet: 3 key heads do not divide heads = 4");
  EXPECT_EQ(ErrorOf("kda", {{"heads", "4"}}, /*tensor=*/3),
            "kda: heads = 4 cannot be shared equally over tensor=3");
  EXPECT_EQ(ErrorOf("kda", {{"heads", "4"}, {"lower_bound", "1"}}),
            "kda: lower_bound = 1 is outside <= 0");
  EXPECT_EQ(ErrorOf("mom", {{"heads", "4"}, {"memories", "2"}, {"top_k", "3"}}),
            "mom: top_k = 3 of memories = 2");
  EXPECT_EQ(
      ErrorOf("mom", {{"heads", "4"}, {"top_k", "1"}}),
      "mom: top_k = 1 teaches the router nothing: the weights of picked memories add up to one");
  EXPECT_EQ(ErrorOf("rwkv7", {{"head_width", "3"}}),
            "rwkv7: head_width = 3 does not divide width = 16");
}

// Step sizes and decays are drawn where the papers say, hedgehog begins as the identity.
TEST(MixersTest, GatesStartAsPublished) {
  const auto device = testing::MakeTestDevice();
  const auto starts = [&](const std::string& entry, const ParamMap& params, const char* name) {
    ParameterSet parameters;
    const auto mixer = testing::MakeMixer(entry, params, testing::SmallShape(), Scope(parameters));
    EXPECT_TRUE(mixer.ok()) << mixer.status();
    EXPECT_TRUE(parameters.Materialize(*device, DType::kF64, 3).ok());
    return parameters.Find(name)->working.ToVector();
  };
  const ParamMap heads = {{"heads", "40"}, {"head_width", "4"}};
  const std::vector<double> biases = starts("gated_deltanet", heads, "dt_bias");
  for (const double bias : biases) {
    const double step = std::log1p(std::exp(bias));
    EXPECT_GE(step, 0.001 * (1 - 1e-9));
    EXPECT_LE(step, 0.1 * (1 + 1e-9));
  }
  EXPECT_EQ(std::set<double>(biases.begin(), biases.end()).size(), 40u);
  for (const double a_log : starts("kda", heads, "a_log")) {
    EXPECT_GE(a_log, 0);
    EXPECT_LE(a_log, std::log(16));
  }
  const std::vector<double> map =
      starts("linear", {{"heads", "4"}, {"feature_map", "hedgehog"}}, "q_map");
  ASSERT_EQ(map.size(), 64u);
  for (int i = 0; i < 64; ++i) EXPECT_EQ(map[i], i / 4 % 4 == i % 4);
}

TEST(MixersTest, FlopsCountProjectionsAndStates) {
  TokenLayout layout;
  layout.segments = {{0, 0, 7}, {1, 0, 3}};
  const auto flops = [&](const std::string& entry, const ParamMap& params) {
    ParameterSet parameters;
    const auto mixer = testing::MakeMixer(entry, params, testing::SmallShape(), Scope(parameters));
    EXPECT_TRUE(mixer.ok()) << mixer.status();
    return (*mixer)->ForwardFlops(layout);
  };
  // Queries, keys; values, gates, output of twice the width; states [4, 8] of four heads.
  EXPECT_EQ(flops("retention", {{"heads", "4"}}),
            10 * (2.0 * 16 * (2 * 16 + 3 * 32) + 2 * 2 * 4 * 4 * 8));
  // A state is read for the key too; beta; convolutions of four taps.
  EXPECT_EQ(flops("deltanet", {{"heads", "4"}}),
            10 * (2.0 * 16 * (4 * 16 + 4) + 3 * 2.0 * 16 * 4 + 3 * 2 * 4 * 4 * 4));
}

// The gradient of the router, when nothing else has one, is that of the loss in mom.h.
TEST(MixersTest, TheRouterOfMomIsBalanced) {
  const auto device = testing::MakeTestDevice();
  const int e = 4, top_k = 2;
  const MixerUnderTest under_test(
      {"", "mom", {{"heads", "4"}, {"head_width", "4"}, {"memories", "4"}, {"balance", "0.5"}}},
      *device);
  const HostBatch host = RaggedDocuments();
  const auto n = static_cast<int64_t>(host.tokens.size());
  const Tensor x = RandomTensor(*device, {n, kMixerWidth}, 3);
  GradientBuffers sink(under_test.parameters, *device);
  const Tensor y = (*under_test.mixer)(x, ContextOf(LayoutOf(host, *device)));
  Backward({y}, {Tensor::Zeros(*device, y.shape(), y.dtype())}, sink);

  const auto& parameters = under_test.parameters.parameters();
  const std::vector<double> xs = x.ToVector();
  for (size_t i = 0; i < parameters.size(); ++i) {
    std::vector<double> expected(parameters[i]->spec.global.numel());
    if (parameters[i]->spec.path == "mixer.router") {
      const std::vector<double> router = parameters[i]->working.ToVector();
      int64_t row = 0;
      for (const Segment& document : host.documents) {
        std::vector<double> counts(e, 0);
        for (int64_t t = 0; t < document.length; ++t, ++row) {
          std::vector<double> p(e);
          double sum = 0, mean = 0;
          for (int k = 0; k < e; ++k) {
            double logit = 0;
            for (int64_t c = 0; c < kMixerWidth; ++c) {
              logit += router[k * kMixerWidth + c] * xs[row * kMixerWidth + c];
            }
            sum += p[k] = std::exp(logit);
          }
          std::vector<int> order = {0, 1, 2, 3};
          std::sort(order.begin(), order.end(), [&](int a, int b) { return p[a] > p[b]; });
          for (int k = 0; k < top_k; ++k) counts[order[k]] += 1;
          const auto share = [&](int k) { return counts[k] / (top_k * (t + 1.0)); };
          for (int k = 0; k < e; ++k) mean += (p[k] /= sum) * share(k);
          for (int k = 0; k < e; ++k) {
            for (int64_t c = 0; c < kMixerWidth; ++c) {
              expected[k * kMixerWidth + c] +=
                  0.5 * e * p[k] * (share(k) - mean) * xs[row * kMixerWidth + c];
            }
          }
        }
      }
      EXPECT_NE(expected[0], 0);
    }
    sink.ZeroIfUntouched(i);
    EXPECT_LT(Distance(sink.gradient(i).ToVector(), expected), 1e-12) << parameters[i]->spec.path;
  }
}

// Windows make the cache forget, so that it does not grow with the sequence.
TEST(MixersTest, TheCacheOfAWindowHasABound) {
  const auto device = testing::MakeTestDevice();
  const MixerUnderTest under_test(testing::FindMixerCase("SoftmaxWindow"), *device);
  const NoGrad no_grad;
  const int64_t n = 100;
  const Tensor x = RandomTensor(*device, {n, kMixerWidth}, 3);
  const HostBatch host = testing::PackedDocuments({{n}}, 23, 1);
  const auto whole = (*under_test.mixer)(x, ContextOf(LayoutOf(host, *device))).ToVector();
  MixerState state;
  std::vector<double> stepped;
  for (int64_t t = 0; t < n; ++t) {
    HostBatch call;
    call.tokens = call.labels = {0};
    call.segments = {{0, t, 1}};
    call.documents = host.documents;
    const Tensor y = under_test.mixer->Step(Slice(x, 0, t, 1), LayoutOf(call, *device), &state);
    const auto values = y.ToVector();
    stepped.insert(stepped.end(), values.begin(), values.end());
  }
  EXPECT_LT(Distance(stepped, whole), 1e-12);
  EXPECT_EQ(state.bytes(), 2 * 16 * kMixerWidth * 8);
}

}  // namespace
}  // namespace trireme
