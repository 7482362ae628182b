// Every layout equals one rank: the pairwise cover of 8 ranks here, all of them in `make verify`.
#include "launch/verify_layouts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launch/config.h"
#include "models/models.h"

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
