#include "parallel/pipeline/lower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_join.h"

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

}  // namespace
}  // namespace trireme
