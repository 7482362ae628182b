#include "parallel/pipeline/simulate.h"

#include <gtest/gtest.h>

#include "parallel/pipeline/verify.h"

namespace trireme {
namespace {

Simulation SimulateSchedule(absl::string_view name, int p, int m, const PipelineCosts& costs = {}) {
  const StatusOr<Plan> plan = MakePlan(name, p, m);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return Simulate(Lower(*plan), costs);
}

TEST(SimulateTest, TimesOfAGridDrawnByHand) {
  const Simulation simulation = SimulateSchedule("1f1b", 2, 2);
  // rank 0  F0 F1 -- -- B0 B0 -- B1 B1
  // rank 1  -- F0 B0 B0 F1 B1 B1 -- --
  const TimedAction rank_0[] = {{{ActionKind::F, 0, 0}, 0, 1},
                                {{ActionKind::F, 0, 1}, 1, 2},
                                {{ActionKind::B, 0, 0}, 4, 6},
                                {{ActionKind::B, 0, 1}, 7, 9}};
  const RankSimulation& simulated = simulation.ranks[0];
  ASSERT_EQ(simulated.actions.size(), 4u);
  for (int n = 0; n < 4; ++n) {
    EXPECT_EQ(simulated.actions[n].action, rank_0[n].action) << n;
    EXPECT_EQ(simulated.actions[n].begin, rank_0[n].begin) << n;
    EXPECT_EQ(simulated.actions[n].end, rank_0[n].end) << n;
  }
  EXPECT_EQ(simulation.makespan, 9);
  EXPECT_EQ(simulation.ranks[0].idle, 3);
  EXPECT_EQ(simulation.ranks[0].idle_inside, 3);
  EXPECT_EQ(simulation.ranks[1].idle, 3);
  EXPECT_EQ(simulation.ranks[1].idle_inside, 0);
  EXPECT_EQ(simulation.ranks[0].peak_in_flight, 2);
  EXPECT_EQ(simulation.ranks[1].peak_in_flight, 1);
}

TEST(SimulateTest, IdleTimesOfUnequalCosts) {
  for (const auto& [f, i, w] :
       {std::tuple(2, 3, 1), std::tuple(5, 6, 4), std::tuple(3, 2, 2), std::tuple(7, 7, 0)}) {
    const PipelineCosts costs = {1.0 * f, 1.0 * i, 1.0 * w};
    for (const int p : {1, 2, 3, 4, 8}) {
      const auto rank_0 = [&](const char* name) {
        return SimulateSchedule(name, p, 3 * p, costs).ranks[0];
      };
      const int bubble = (p - 1) * (f + i + w);
      EXPECT_EQ(rank_0("gpipe").idle, bubble);
      EXPECT_EQ(rank_0("1f1b").idle, bubble);
      EXPECT_EQ(rank_0("interleaved").idle, bubble / 2.0);
      EXPECT_EQ(rank_0("bfs").idle, bubble / 2.0);
      EXPECT_EQ(rank_0("zb_h1").idle, (p - 1) * (f + i - w));
      EXPECT_EQ(rank_0("zb_h2").idle_inside, (p - 1) * (f + i - 2 * w));
    }
  }
}

TEST(SimulateTest, MessagesTakeTimeAndQueue) {
  // The first and the last message of each direction are all that GPipe shows, as long as a message
  // takes no longer than a forward.
  for (const double message : {0.25, 1.0}) {
    EXPECT_EQ(SimulateSchedule("gpipe", 4, 8, {1, 1, 1, message}).ranks[0].idle,
              3 * (3 + 2 * message));
  }
  // Slower ones come one after the other: five there after the first F, while rank 1 computes; the
  // first B waits for the last F, and each B is slower than its message.
  EXPECT_EQ(SimulateSchedule("gpipe", 2, 5, {1, 4, 4, 7}).makespan, 1 + 5 * 7 + 1 + 5 * 8 + 7 + 8);
  // A chunk is a part of the work, its message is whole: 3 messages down and 3 back.
  EXPECT_EQ(SimulateSchedule("bfs", 2, 1, {1, 1, 1, 0.25}).makespan, 4 * 1.5 + 6 * 0.25);
}

TEST(SimulateTest, AMessageWaitsForItsReceive) {
  // Rank 1 starts the second receive after its first backward only, so rank 0's message waits.
  LoweredPlan plan = Lower(*MakePlan("gpipe", 2, 2));
  using K = LoweredKind;
  plan.programs[1] = {
      {K::RecvActivation, 1, 0, 0}, {K::F, 1, 0}, {K::B, 1, 0}, {K::SendGradient, 1, 0, 0},
      {K::RecvActivation, 1, 1, 0}, {K::F, 1, 1}, {K::B, 1, 1}, {K::SendGradient, 1, 1, 0}};
  plan.programs[0] = {{K::RecvGradient, 0, 0, 1},
                      {K::F, 0, 0},
                      {K::SendActivation, 0, 0, 1},
                      {K::RecvGradient, 0, 1, 1},
                      {K::F, 0, 1},
                      {K::SendActivation, 0, 1, 1},
                      {K::B, 0, 0},
                      {K::B, 0, 1}};
  ASSERT_EQ(Verify(plan), absl::OkStatus());
  const std::vector<TimedAction> actions = Simulate(plan, {1, 1, 1, 0.5}).ranks[1].actions;
  EXPECT_EQ(actions[0].begin, 1.5);
  EXPECT_EQ(actions[1].end, 4.5);
  EXPECT_EQ(actions[2].begin, 5);  // Not 4.5: sent at 2, received from 4.5 on.
}

}  // namespace
}  // namespace trireme
