// Every layout equals one rank: the pairwise cover of 8 ranks here, all of them in `make verify`.
#include "launch/verify_layouts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "launch/catalogue.h"
#include "launch/config.h"
#include "launch/config_reader.h"
#include "models/models.h"
#include "tests/launch/trainers.h"

namespace trireme {
namespace {

using Outcome = LayoutVerdict::Outcome;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kInstrumented = true;
#else
constexpr bool kInstrumented = false;
#endif

RunConfig VerifyConfig(const std::vector<std::string>& assignments = {}) {
  const auto loaded =
      LoadConfig(TRIREME_SOURCE_DIR "/examples/configs/verify.textproto", assignments);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return loaded->config;
}

struct Counts {
  int equal = 0, differs = 0, skipped = 0;
  std::vector<std::string> reasons;
};

Counts Verify(const RunConfig& config, const VerifyOptions& options) {
  Counts counts;
  const auto verdicts = VerifyLayouts(config, options);
  EXPECT_TRUE(verdicts.ok()) << verdicts.status();
  for (const LayoutVerdict& verdict : *verdicts) {
    if (verdict.outcome == Outcome::kEqual) ++counts.equal;
    if (verdict.outcome == Outcome::kSkipped) ++counts.skipped;
    if (verdict.outcome != Outcome::kDiffers) continue;
    ++counts.differs;
    counts.reasons.push_back(verdict.reason);
    ADD_FAILURE() << verdict.layout.ToString() << ": " << verdict.reason;
  }
  return counts;
}

TEST(VerifyLayoutsTest, CountsOfLayouts) {
  EXPECT_EQ(AllLayouts(1).size(), 1u);
  EXPECT_EQ(AllLayouts(2).size(), 26u);
  EXPECT_EQ(AllLayouts(4).size(), 229u);
  EXPECT_EQ(AllLayouts(8).size(), 970u);
  EXPECT_EQ(PairwiseCover(AllLayouts(4)).size(), 103u);
  EXPECT_EQ(PairwiseCover(AllLayouts(8)).size(), 108u);
}

TEST(VerifyLayoutsTest, APairwiseCoverOfEightRanksEqualsOneRank) {
  if (kInstrumented) GTEST_SKIP() << "minutes; four ranks say as much to a sanitizer";
  const Counts counts = Verify(VerifyConfig(), {.num_ranks = 8, .num_steps = 2, .pairwise = true});
  EXPECT_EQ(counts.equal, 104);
  EXPECT_EQ(counts.skipped,
            4);  // Eight ranks of two stages each need more than the model's 8 units.
}

TEST(VerifyLayoutsTest, ThreeRanksAndTiedHead) {
  const RunConfig config = VerifyConfig({"model.tied_head=true", "batch.global_batch_size=6"});
  const Counts counts = Verify(config, {.num_ranks = 3, .num_steps = 2});
  EXPECT_EQ(counts.equal, 18);
  EXPECT_EQ(counts.skipped, 8);  // Heads over tensor=3 (2), and over ulysses=3 (6).
}

TEST(VerifyLayoutsTest, InSinglePrecisionALayoutIsAsNearToTheTruthAsOneRank) {
  const VerifyOptions options = {
      .num_ranks = 4, .num_steps = 1, .dtype = DType::kF32, .pairwise = true};
  EXPECT_EQ(Verify(VerifyConfig(), options).equal, 103);
}

// Linear and softmax layers over one sequence axis, in both cuts, with every transport, under
// pipelines and tensor parallelism at once.
TEST(VerifyLayoutsTest, AHybridOverThreeAxesAtOnce) {
  if (kInstrumented) GTEST_SKIP() << "minutes; the suites of the sequence axis say as much";
  auto loaded = LoadConfig(TRIREME_SOURCE_DIR "/examples/configs/verify_hybrid.textproto", {});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  VerifyOptions options = {.num_ranks = 8, .num_steps = 2};
  std::vector<RunLayout> three_axes;
  for (RunLayout& layout : AllLayouts(8, /*scans=*/true)) {
    int axes = 0;
    for (const auto& [path, value] : layout.values) {
      axes += value == "2" &&
              (path == "mesh.pipeline" || path == "mesh.sequence" || path == "mesh.tensor");
    }
    if (axes == 3) three_axes.push_back(std::move(layout));
  }
  options.layouts = PairwiseCover(three_axes);
  const Counts counts = Verify(loaded->config, options);
  EXPECT_GT(counts.equal, 20);
  EXPECT_EQ(counts.skipped, 0);
}

// The only weights that are trained: factors cut like the matrices they are added to.
TEST(VerifyLayoutsTest, AdaptersOnFrozenWeights) {
  RunConfig config = VerifyConfig();
  const auto add_lora = [&](const std::string& pattern, int64_t rank, double alpha) {
    RunConfig::Lora& lora = *config.add_lora();
    lora.set_pattern(pattern), lora.set_rank(rank), lora.set_alpha(alpha);
  };
  add_lora("*.mixer.w*", 3, 6);
  add_lora("*.mlp.*", 2, 7);
  config.add_groups()->set_pattern("*.lora_*");
  RunConfig::ParameterGroup& others = *config.add_groups();
  others.set_pattern("*"), others.set_frozen(true);
  EXPECT_EQ(Verify(config, {.num_ranks = 2, .num_steps = 3}).equal, 26);
}

TEST(VerifyLayoutsTest, RecomputationUnderEveryAxis) {
  const RunConfig config = VerifyConfig({"recompute=true"});
  EXPECT_EQ(Verify(config, {.num_ranks = 2, .num_steps = 2}).equal, 26);
}

// Two layers, and what its replicas exchange.
RunConfig ExchangingConfig(const std::string& exchanges, int num_replicas) {
  std::ifstream file(TRIREME_SOURCE_DIR "/examples/configs/verify.textproto");
  std::stringstream text;
  text << file.rdbuf() << exchanges;
  const auto loaded = ParseConfig(
      "exchanging", text.str(),
      {absl::StrCat("mesh.replica=", num_replicas), "model.num_layers=2", "data.sequence_length=13",
       "data.dataset.max_document_tokens=9", "data.dataset.num_tokens=2000",
       "batch.global_batch_size=8", "num_steps=20", "lr_schedule.name=cosine"});
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return loaded->config;
}

// "tensor=2 sharded_stream=true" of a mesh.
std::vector<RunLayout> LayoutsOf(int num_replicas, const std::vector<std::string>& texts) {
  std::vector<RunLayout> layouts;
  for (const std::string& text : texts) {
    RunLayout layout = {{{"mesh.replica", absl::StrCat(num_replicas)}}};
    for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> value = absl::StrSplit(word, '=');
      const bool full = value.first.find('.') != std::string::npos;
      layout.values.push_back({full ? value.first : "mesh." + value.first, value.second});
    }
    layouts.push_back(std::move(layout));
  }
  return layouts;
}

struct Method {
  const char* name;
  const char* exchanges;
  int num_replicas = 2;
};

void PrintTo(const Method& method, std::ostream* out) { *out << method.name; }

constexpr char kDiLoCoInt8[] = R"(
  exchanges {
    point: "difference" rule { name: "every" period: 2 } codec { name: "int8" block: 40 }
    memory: "error_feedback" mixer { name: "all_gather" } outer { name: "sgd" }
  }
)";

const Method kMethods[] = {
    {"DiLoCoInt8", kDiLoCoInt8},
    {"QSR", R"(exchanges { point: "parameters" rule { name: "qsr" alpha: 0.017 h_base: 2 } })"},
    {"TopK", R"(
      exchanges {
        point: "gradient" codec { name: "top_k" fraction: 0.1 block: 0 } memory: "error_feedback"
        mixer { name: "all_gather" } weights: "tokens"
      })"},
    {"EF21", R"(
      exchanges {
        point: "gradient" codec { name: "top_k" fraction: 0.2 block: 50 } memory: "difference"
        mixer { name: "all_gather" } weights: "equal"
      })"},
    {"PowerSGD", R"(
      exchanges { point: "gradient" pattern: "*gain" weights: "equal" }
      exchanges {
        point: "gradient" codec { name: "powersgd" rank: 2 } memory: "error_feedback" weights: "equal"
      })"},
    {"Streaming", R"(
      exchanges {
        point: "difference" rule { name: "every" period: 4 } codec { name: "e3m0" block: 32 }
        memory: "error_feedback" mixer { name: "scatter_gather" } outer { name: "sgd" }
        fragments: 2 delay: 1 keep_local: 0.25
      })"},
    {"AveragedMoments", R"(
      exchanges { point: "parameters" rule { name: "every" period: 2 } }
      exchanges { point: "parameters" state: "exp_avg" rule { name: "every" period: 2 } })"},
    {"Elastic", R"(
      exchanges {
        point: "difference" rule { name: "every" period: 2 } codec { name: "sign" block: 64 }
        memory: "error_feedback" mixer { name: "all_gather" } outer { name: "elastic" }
      })"},
    {"Gossip",
     R"(exchanges { point: "parameters" rule { name: "every" period: 1 } mixer { name: "gossip" } })",
     4},
};

class ExchangesVerifyTest : public ::testing::TestWithParam<Method> {};

// A replica is the same whatever it is made of: blocks of codecs that a cut runs through, memories
// and anchors.
TEST_P(ExchangesVerifyTest, AReplicaIsTheSameHoweverItIsSharded) {
  const Method& method = GetParam();
  const RunConfig config = ExchangingConfig(method.exchanges, method.num_replicas);
  const bool four = method.num_replicas == 4;
  const std::vector<std::string> twos = {
      "tensor=2",
      "tensor=2 sharded_stream=true",
      "shard=2 zero_stage=1",
      "shard=2 zero_stage=2",
      "shard=2 zero_stage=3",
      "pipeline=2",
      "pipeline=2 pipeline_schedule.name=zb_v",
      "sequence=2 kv_exchange.name=ring",
  };
  const std::vector<std::string> fours = {
      "tensor=4",
      "tensor=2 shard=2 zero_stage=3",
      "tensor=2 pipeline=2 sharded_stream=true",
      "pipeline=2 shard=2 zero_stage=2",
      "shard=2 sequence=2 zero_stage=3 kv_exchange.name=ulysses",
  };
  VerifyOptions options = {.num_ranks = 2 * method.num_replicas, .num_steps = 0};
  options.layouts = LayoutsOf(method.num_replicas, twos);
  EXPECT_EQ(Verify(config, options).equal, static_cast<int>(twos.size()));
  if (four || kInstrumented) return;
  options.num_ranks = 8;
  options.layouts = LayoutsOf(method.num_replicas, fours);
  EXPECT_EQ(Verify(config, options).equal, static_cast<int>(fours.size()));
}

INSTANTIATE_TEST_SUITE_P(Methods, ExchangesVerifyTest, ::testing::ValuesIn(kMethods),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(VerifyLayoutsTest, WithExchangesTheConfigSaysHowManyReplicas) {
  const RunConfig config = ExchangingConfig(kDiLoCoInt8, 2);
  EXPECT_TRUE(ReplicasDecide(config));
  EXPECT_FALSE(ReplicasDecide(ExchangingConfig("", 2)));
  EXPECT_FALSE(ReplicasDecide(ExchangingConfig("exchanges { point: 'gradient' }", 2)));
  const auto message = [](const RunConfig& wrong, const VerifyOptions& options) {
    return std::string(VerifyLayouts(wrong, options).status().message());
  };
  RunConfig silent = config;
  silent.mutable_mesh()->clear_replica();
  EXPECT_THAT(message(silent, {.num_ranks = 4}), ::testing::HasSubstr("mesh.replica"));
  EXPECT_THAT(message(config, {.num_ranks = 3, .num_steps = 1}),
              ::testing::HasSubstr("3 ranks are no multiple of mesh.replica=2"));
  EXPECT_THAT(message(config, {.num_ranks = 4, .dtype = DType::kF32}),
              ::testing::HasSubstr("compared in f64"));
  VerifyOptions other = {.num_ranks = 4, .num_steps = 1};
  other.layouts = LayoutsOf(4, {""});
  const Counts counts = Verify(config, other);
  EXPECT_EQ(counts.skipped, 1);
}

// The elements of `box` of a whole tensor.
std::vector<double> PartOf(const std::vector<double>& whole, const Shape& global, const Box& box) {
  std::vector<double> part(box.numel());
  if (part.empty()) return part;
  const BoxRuns runs(global, box.begin, box.size, WholeBox(box.size).begin, box.size);
  for (int64_t k = 0; k < runs.count(); ++k) {
    std::copy_n(whole.begin() + runs[k].source, runs.length(), part.begin() + runs[k].dest);
  }
  return part;
}

// Blocks of 40 elements, which cuts of rows of 24 and of 12 run through: of the same parameters, in
// f32, an exchange makes the same bits.
TEST(VerifyLayoutsTest, ACutThroughABlockChangesNoBit) {
  std::map<std::string, std::vector<double>> expected;
  for (const char* cut : {"tensor=1", "tensor=2", "shard=2", "shard=2 tensor=2"}) {
    LoadedConfig loaded = {ExchangingConfig(kDiLoCoInt8, 2), {}};
    loaded.config.set_dtype("f32");
    loaded.config.mutable_mesh()->set_zero_stage(3);
    int num_ranks = 2;
    for (const absl::string_view word : absl::StrSplit(cut, ' ')) {
      ASSERT_TRUE(
          ApplyAssignment(absl::StrCat("mesh.", word), &loaded.config, &loaded.origins).ok());
      num_ranks *= word.back() - '0';
    }
    ASSERT_TRUE(ResolveConfig(num_ranks, Catalogue(), &loaded).ok());
    testing::OnTrainers(loaded.config, num_ranks, [&](const testing::TrainerRank& rank) -> Status {
      const int replica = rank.trainer.mesh().Coordinate(Axis::kReplica);
      const auto& parameters = rank.trainer.model().parameters().parameters();
      for (const auto& parameter : parameters) {
        const ParamSpec& spec = parameter->spec;
        std::vector<double> whole(spec.global.numel());
        for (size_t i = 0; i < whole.size(); ++i) whole[i] = std::sin(1.7 * i + 3 * replica);
        const std::vector<double> mine = PartOf(whole, spec.global, parameter->owned_box);
        parameter->owned.CopyFrom(Tensor::FromVector(rank.device, parameter->owned.shape(), mine,
                                                     parameter->owned.dtype()));
      }
      RETURN_IF_ERROR(rank.trainer.exchanges().AfterUpdate(1, {1, 1, 1}).status());
      ASSIGN_OR_RETURN(const bool exchanged, rank.trainer.exchanges().AfterUpdate(2, {1, 1, 1}));
      EXPECT_TRUE(exchanged);
      for (const auto& parameter : parameters) {
        const std::string& path = parameter->spec.path;
        if (num_ranks > 2) {
          EXPECT_EQ(parameter->owned.ToVector(),
                    PartOf(expected.at(path), parameter->spec.global, parameter->owned_box))
              << path << " under " << cut;
        } else if (replica == 0) {
          expected[path] = parameter->owned.ToVector();
        }
      }
      return absl::OkStatus();
    });
  }
}

// A model whose gradient misses a reduction: what the table says of it.
TEST(VerifyLayoutsTest, NamesTheFirstTensorThatDiffersAndItsAxis) {
  VerifyOptions options = {.num_ranks = 2, .num_steps = 1};
  const RunConfig config = VerifyConfig();
  options.model = [&](const DataShape& data,
                      const ModelLayout& layout) -> StatusOr<std::unique_ptr<Model>> {
    auto model = MakeModel(ToComponentConfig(config.model()), data, layout);
    RETURN_IF_ERROR(model.status());
    (*model)->parameters().Find("layers.2.mixer.q_norm.gain")->spec.partial_grad = {};
    return model;
  };
  const auto verdicts = VerifyLayouts(config, options);
  ASSERT_TRUE(verdicts.ok()) << verdicts.status();
  for (const LayoutVerdict& verdict : *verdicts) {
    const bool tensor = verdict.layout.ToString().find("tensor=2") != std::string::npos;
    EXPECT_EQ(verdict.outcome, tensor ? Outcome::kDiffers : Outcome::kEqual);
    if (!tensor) continue;
    EXPECT_THAT(verdict.reason, ::testing::HasSubstr("layers.2.mixer.q_norm.gain"));
    EXPECT_THAT(verdict.reason, ::testing::HasSubstr("tensor"));
  }
}

}  // namespace
}  // namespace trireme
