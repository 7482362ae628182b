#include "parallel/pipeline/lower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"

#include "parallel/pipeline/simulate.h"
#include "parallel/pipeline/verify.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;

// "RecvActivation 1.0 < 0" : stage 1, micro-batch 0, from rank 0.
std::vector<std::string> Text(const std::vector<LoweredAction>& program) {
  std::vector<std::string> lines;
  for (const LoweredAction& action : program) {
    std::string name = ToString(action);
    name.resize(name.find('('));
    lines.push_back(absl::StrCat(name, " ", action.stage, ".", action.micro_batch));
    if (IsSend(action.kind)) absl::StrAppend(&lines.back(), " > ", action.peer);
    if (IsRecv(action.kind)) absl::StrAppend(&lines.back(), " < ", action.peer);
  }
  return lines;
}

// They begin at: rank 0, F0 0, F1 1, B0 4, F2 6, B1 7, B2 10; rank 1, F0 1, B0 2, F1 4, B1 5, F2 7,
// B2 8.
TEST(LowerTest, ReceivesStartAnActionAheadOfTheMessage) {
  const LoweredPlan plan = Lower(*MakePlan("1f1b", 2, 3));
  EXPECT_THAT(Text(plan.programs[0]),
              ElementsAre("F 0.0", "SendActivation 0.0 > 1", "RecvGradient 0.0 < 1", "F 0.1",
                          "SendActivation 0.1 > 1", "B 0.0", "RecvGradient 0.1 < 1", "F 0.2",
                          "SendActivation 0.2 > 1", "RecvGradient 0.2 < 1", "B 0.1", "B 0.2"));
  EXPECT_THAT(Text(plan.programs[1]),
              ElementsAre("RecvActivation 1.0 < 0", "RecvActivation 1.1 < 0", "F 1.0", "B 1.0",
                          "SendGradient 1.0 > 0", "F 1.1", "RecvActivation 1.2 < 0", "B 1.1",
                          "SendGradient 1.1 > 0", "F 1.2", "B 1.2", "SendGradient 1.2 > 0"));
  EXPECT_EQ(Verify(plan), absl::OkStatus());
}

TEST(LowerTest, NothingIsSentInsideARank) {
  for (const char* name : {"interleaved", "zb_v"}) {
    const LoweredPlan alone = Lower(*MakePlan(name, 1, 3));
    for (const LoweredAction& action : alone.programs[0]) {
      EXPECT_TRUE(IsCompute(action.kind)) << name << " " << ToString(action);
    }
  }
  // The bottom of the V: stage 1 hands over to stage 2 on the same rank.
  const LoweredPlan two = Lower(*MakePlan("zb_v", 2, 3));
  for (const LoweredAction& action : two.programs[1]) {
    EXPECT_FALSE(action.kind == LoweredKind::SendActivation && action.stage == 1);
    EXPECT_FALSE(action.kind == LoweredKind::RecvGradient && action.stage == 1);
  }
}

// Each receive is just ahead of the last action that begins before its message is sent; the first
// action where there is none.
TEST(LowerTest, NoReceiveIsLaterOrEarlierThanPromised) {
  int num_messages = 0;
  for (const auto& entry : PipelineSchedules()) {
    for (const auto& [p, m] :
         {std::pair(2, 1), std::pair(2, 5), std::pair(3, 4), std::pair(4, 9)}) {
      const LoweredPlan plan = Lower(*MakePlan(entry.name, p, m));
      const Simulation simulation = Simulate(plan);
      std::map<std::tuple<LoweredKind, int, int>, double> sent;  // By the receive.
      for (int rank = 0; rank < p; ++rank) {
        size_t computed = 0;
        for (const LoweredAction& action : plan.programs[rank]) {
          computed += IsCompute(action.kind);
          if (!IsSend(action.kind)) continue;
          const LoweredAction recv = RecvOf(plan, action);
          sent[{recv.kind, recv.stage, recv.micro_batch}] =
              simulation.ranks[rank].actions[computed - 1].end;
        }
      }
      for (int rank = 0; rank < p; ++rank) {
        const std::vector<TimedAction>& actions = simulation.ranks[rank].actions;
        size_t computed = 0;
        for (const LoweredAction& action : plan.programs[rank]) {
          computed += IsCompute(action.kind);
          if (!IsRecv(action.kind)) continue;
          ++num_messages;
          const double time = sent.at({action.kind, action.stage, action.micro_batch});
          SCOPED_TRACE(absl::StrCat(entry.name, " rank ", rank, " ", ToString(action)));
          ASSERT_LT(computed + 1, actions.size());
          if (computed > 0) {
            EXPECT_LT(actions[computed].begin, time);
          }
          EXPECT_GE(actions[computed + 1].begin, time);
        }
      }
    }
  }
  EXPECT_GT(num_messages, 1000);
}

}  // namespace
}  // namespace trireme
