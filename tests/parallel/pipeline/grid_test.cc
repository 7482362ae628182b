#include "parallel/pipeline/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_split.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

struct Simulated {
  LoweredPlan plan;
  Simulation simulation;
};

Simulated Simulate(absl::string_view name, int p, int m, const PipelineCosts& costs = {}) {
  Simulated simulated{Lower(*MakePlan(name, p, m)), {}};
  simulated.simulation = trireme::Simulate(simulated.plan, costs);
  return simulated;
}

TEST(GridTest, Text) {
  const auto [plan, simulation] = Simulate("1f1b", 2, 3);
  EXPECT_EQ(GridText(plan, simulation),
            "time    0              5              10\n"
            "rank 0  F0 F1 .  .  B0 -  F2 B1 -  .  B2 -\n"
            "rank 1  .  F0 B0 -  F1 B1 -  F2 B2 -  .  .\n");
}

TEST(GridTest, ChunksAndBlocksOfALongGrid) {
  const auto [plan, simulation] = Simulate("zb_v", 2, 3);
  EXPECT_EQ(GridText(plan, simulation, 8 + 10 * 5),
            "time    0         1         2         3         4\n"
            "rank 0  F0.0 F1.0 F2.0 F0.1 I0.1 W0.1 F1.1 I1.1 W1.1 I0.0\n"
            "rank 1  .    F0.0 F0.1 F1.0 F1.1 I0.1 W0.1 F2.0 I0.0 W0.0\n"
            "\n"
            "time    5         6         7         8         9\n"
            "rank 0  W0.0 F2.1 I2.1 W2.1 I1.0 W1.0 I2.0 W2.0 .\n"
            "rank 1  F2.1 I1.1 W1.1 I1.0 I2.1 I2.0 W1.0 W2.1 W2.0\n");
  // However narrow, a column at a time.
  EXPECT_THAT(GridText(plan, simulation, 1), HasSubstr("\nrank 1  F0.0\n"));
}

TEST(GridTest, OtherCostsAreDrawn) {
  const auto [plan, simulation] = Simulate("gpipe", 1, 2, {2, 1, 0, 0});
  EXPECT_EQ(GridText(plan, simulation),
            "time    0              5\n"
            "rank 0  F0 -  F1 -  B0 B1\n");
}

TEST(GridTest, SvgHasEveryActionAndIsBalanced) {
  const auto [plan, simulation] = Simulate("dualpipe_v", 2, 4);
  const std::string svg = GridSvg(plan, simulation, "a < b & c");
  const auto count = [&](absl::string_view what) {
    return static_cast<std::vector<absl::string_view>>(absl::StrSplit(svg, what)).size() - 1;
  };
  size_t num_actions = 0;
  for (const RankSimulation& rank : simulation.ranks) num_actions += rank.actions.size();
  EXPECT_EQ(count("<rect "), num_actions + 4 + 1);  // The legend and the background.
  EXPECT_EQ(count("<text "), count("</text>"));
  EXPECT_EQ(count("<svg "), 1u);
  EXPECT_EQ(count("</svg>\n"), 1u);
  EXPECT_EQ(count(">F3.1</text>"), 2u);  // One a rank.
  EXPECT_EQ(count("a &lt; b &amp; c"), 1u);
  EXPECT_EQ(count("peak 2.5"), 2u);
}

}  // namespace
}  // namespace trireme
