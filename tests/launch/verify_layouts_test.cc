// Every layout equals one rank: the pairwise cover of 8 ranks here, all of them in `make verify`.
#include "launch/verify_layouts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "core/io/file.h"
#include "core/ops/ops.h"
#include "launch/config.h"

namespace trireme {
namespace {

using Outcome = LayoutVerdict::Outcome;

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
  const Counts counts = Verify(VerifyConfig(), {.num_ranks = 8, .num_steps = 2, .pairwise = true});
  EXPECT_EQ(counts.equal, 104);
  EXPECT_EQ(counts.skipped, 4);  // Eight ranks of two stages each need more than the model's 8 units.
}

TEST(VerifyLayoutsTest, ThreeRanksAndTiedHead) {
  const RunConfig config = VerifyConfig({"model.tied_head=true", "batch.global_batch_size=6"});
  const Counts counts = Verify(config, {.num_ranks = 3, .num_steps = 2});
  EXPECT_GT(counts.equal, 10);
}

}  // namespace
}  // namespace trireme
