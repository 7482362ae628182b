#include "parallel/pipeline/verify.h"

#include <gtest/gtest.h>

#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "parallel/pipeline/simulate.h"

namespace trireme {
namespace {

using K = LoweredKind;

Plan MadePlan(absl::string_view name, int p, int m) {
  const StatusOr<Plan> plan = MakePlan(name, p, m);
  CHECK_OK(plan.status());
  return *plan;
}

std::string Refusal(const LoweredPlan& plan) {
  const Status status = Verify(plan);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

// Two ranks, two micro-batches, GPipe. Rank 0: F0, F1, B0, B1 of stage 0; rank 1: of stage 1.
class BrokenPlanTest : public ::testing::Test {
 protected:
  std::vector<LoweredAction>& program(int rank) { return plan_.programs[rank]; }
  size_t Find(int rank, const LoweredAction& action) {
    const auto found = std::find(program(rank).begin(), program(rank).end(), action);
    CHECK(found != program(rank).end()) << ToString(action);
    return found - program(rank).begin();
  }
  void Remove(int rank, const LoweredAction& action) {
    program(rank).erase(program(rank).begin() + Find(rank, action));
  }
  // Moves the action to just ahead of the other.
  void Move(int rank, const LoweredAction& action, const LoweredAction& ahead_of) {
    Remove(rank, action);
    program(rank).insert(program(rank).begin() + Find(rank, ahead_of), action);
  }

  LoweredPlan plan_ = Lower(MadePlan("gpipe", 2, 2));
};

TEST_F(BrokenPlanTest, WholeItIsRight) { EXPECT_EQ(Verify(plan_), absl::OkStatus()); }

TEST_F(BrokenPlanTest, MissingActions) {
  const LoweredPlan whole = plan_;
  for (int rank = 0; rank < 2; ++rank) {
    for (const LoweredAction& action : whole.programs[rank]) {
      plan_ = whole;
      Remove(rank, action);
      EXPECT_EQ(Refusal(plan_), absl::StrCat("rank ", rank, " lacks ", ToString(action)));
    }
  }
}

TEST_F(BrokenPlanTest, ActionsTwice) {
  const LoweredPlan whole = plan_;
  for (int rank = 0; rank < 2; ++rank) {
    for (const LoweredAction& action : whole.programs[rank]) {
      plan_ = whole;
      program(rank).push_back(action);
      EXPECT_EQ(Refusal(plan_), absl::StrCat("rank ", rank, " has ", ToString(action), " twice"));
    }
  }
}

TEST_F(BrokenPlanTest, ActionsThatAreNotThere) {
  const LoweredPlan whole = plan_;
  for (const LoweredAction& action :
       {LoweredAction{K::F, 1, 0}, LoweredAction{K::F, 2, 0}, LoweredAction{K::F, -1, 0},
        LoweredAction{K::F, 0, 2}, LoweredAction{K::F, 0, -1}}) {
    plan_ = whole;
    program(0).push_back(action);
    EXPECT_EQ(Refusal(plan_), absl::StrCat("rank 0 has no ", ToString(action)));
  }
  plan_ = whole;
  program(0).push_back({K::SendGradient, 0, 0, 1});
  EXPECT_EQ(Refusal(plan_), "rank 0 has no other rank for SendGradient(stage 0, micro-batch 0)");
  plan_ = whole;
  program(0)[Find(0, {K::SendActivation, 0, 1, 1})].peer = 0;
  EXPECT_EQ(Refusal(plan_), "SendActivation(stage 0, micro-batch 1) of rank 0 names rank 0, not 1");
  plan_ = whole;
  program(1).push_back({K::W, 1, 0});
  EXPECT_EQ(Refusal(plan_), "rank 1 runs B(stage 1, micro-batch 0) and I or W as well");
  plan_ = whole;
  program(1)[Find(1, {K::B, 1, 0})].kind = K::I;
  EXPECT_EQ(Refusal(plan_), "rank 1 lacks W(stage 1, micro-batch 0)");
  plan_ = whole;
  plan_.rank_of_stage[1] = 2;
  EXPECT_EQ(Refusal(plan_), "a stage is on rank 2");
}

TEST_F(BrokenPlanTest, SwappedActions) {
  Move(1, {K::B, 1, 1}, {K::F, 1, 1});
  EXPECT_EQ(Refusal(plan_),
            "rank 1 has B(stage 1, micro-batch 1) ahead of F(stage 1, micro-batch 1)");
}

TEST_F(BrokenPlanTest, AReceiveAfterItsUse) {
  Move(0, {K::RecvGradient, 0, 0, 1}, {K::B, 0, 1});
  EXPECT_EQ(Refusal(plan_),
            "rank 0 has B(stage 0, micro-batch 0) ahead of RecvGradient(stage 0, micro-batch 0)");
}

TEST_F(BrokenPlanTest, CrossedSends) {
  Move(1, {K::RecvActivation, 1, 1, 0}, {K::RecvActivation, 1, 0, 0});
  EXPECT_EQ(Refusal(plan_),
            "message 0 from rank 0 to rank 1 is sent as SendActivation(stage 0, micro-batch 0) but "
            "received as RecvActivation(stage 1, micro-batch 1)");
}

TEST_F(BrokenPlanTest, SendsThatWaitForEachOther) {
  // Each sends before it starts to receive what the other sends: right with buffers, not without.
  plan_.programs[0] = {{K::F, 0, 0},
                       {K::SendActivation, 0, 0, 1},
                       {K::F, 0, 1},
                       {K::SendActivation, 0, 1, 1},
                       {K::RecvGradient, 0, 0, 1},
                       {K::RecvGradient, 0, 1, 1},
                       {K::B, 0, 0},
                       {K::B, 0, 1}};
  plan_.programs[1] = {
      {K::RecvActivation, 1, 0, 0}, {K::F, 1, 0}, {K::B, 1, 0}, {K::SendGradient, 1, 0, 0},
      {K::RecvActivation, 1, 1, 0}, {K::F, 1, 1}, {K::B, 1, 1}, {K::SendGradient, 1, 1, 0}};
  EXPECT_EQ(Refusal(plan_),
            "the plan never ends: rank 0 waits in SendActivation(stage 0, micro-batch 1) for rank "
            "1, which waits in SendGradient(stage 1, micro-batch 0) for rank 0");
}

TEST(VerifyTest, OrdersThatContradictEachOther) {
  Plan plan = MadePlan("1f1b", 2, 2);
  std::swap(plan.orders[0][1], plan.orders[0][2]);  // F0 B0 F1 B1
  plan.orders[1] = {
      {ActionKind::F, 1, 0}, {ActionKind::F, 1, 1}, {ActionKind::B, 1, 0}, {ActionKind::B, 1, 1}};
  EXPECT_EQ(Refusal(Lower(plan)),
            "the plan never ends: rank 0 waits in B(stage 0, micro-batch 0) for rank 1, which "
            "waits in F(stage 1, micro-batch 1) for rank 0");
}

TEST(VerifyTest, ACycleOfThreeRanks) {
  Plan plan = MadePlan("bfs", 3, 1);
  std::swap(plan.orders[0][0], plan.orders[0][1]);
  EXPECT_EQ(Refusal(Lower(plan)),
            "the plan never ends: rank 0 waits in F(stage 3, micro-batch 0) for rank 2, which "
            "waits in F(stage 2, micro-batch 0) for rank 1, which waits in F(stage 1, micro-batch "
            "0) for rank 0");
}

TEST(VerifyTest, ARankThatWaitsForItself) {
  Plan plan = MadePlan("zb_v", 1, 1);
  plan.orders[0] = {
      {ActionKind::F, 1, 0}, {ActionKind::F, 0, 0}, {ActionKind::B, 1, 0}, {ActionKind::B, 0, 0}};
  EXPECT_EQ(Refusal(Lower(plan)),
            "the plan never ends: rank 0 waits in F(stage 1, micro-batch 0) for itself");
}

// The waits of a lowered plan as a graph: each action waits for the one before it, F, I and B for
// the send of what they need, a send for its receive, W for I. It ends under rendezvous when the
// graph has no cycle.
class WaitGraph {
 public:
  explicit WaitGraph(const LoweredPlan& plan) {
    for (const auto& program : plan.programs) {
      for (size_t at = 0; at < program.size(); ++at) {
        const LoweredAction& a = program[at];
        if (at > 0) Wait(a, program[at - 1]);
        const int s = a.stage, i = a.micro_batch, last = plan.num_stages() - 1;
        const auto rank = [&](int stage) { return plan.rank_of_stage[stage]; };
        const auto backward = [&](int stage) {
          const K kind = Has(plan, {K::B, stage, i}) ? K::B : K::I;
          return LoweredAction{kind, stage, i};
        };
        if (a.kind == K::F && s > 0) {
          if (rank(s - 1) == rank(s)) {
            Wait(a, {K::F, s - 1, i});
          } else {
            Wait(a, {K::SendActivation, s - 1, i, rank(s)});
          }
        }
        if (a.kind == K::I || a.kind == K::B) {
          Wait(a, {K::F, s, i});
          if (s < last && rank(s + 1) == rank(s)) Wait(a, backward(s + 1));
          if (s < last && rank(s + 1) != rank(s)) Wait(a, {K::SendGradient, s + 1, i, rank(s)});
        }
        if (a.kind == K::W) Wait(a, {K::I, s, i});
        if (IsSend(a.kind)) {
          Wait(a, a.kind == K::SendActivation ? LoweredAction{K::F, s, i} : backward(s));
          Wait(a, RecvOf(plan, a));
        }
      }
    }
  }

  bool Ends() {
    for (const auto& [action, unused] : waits_) {
      if (!Visit(action)) return false;
    }
    return true;
  }

 private:
  using Key = std::tuple<int, int, int>;
  static Key KeyOf(const LoweredAction& a) {
    return {static_cast<int>(a.kind), a.stage, a.micro_batch};
  }
  static bool Has(const LoweredPlan& plan, const LoweredAction& action) {
    const auto& program = plan.programs[plan.rank_of_stage[action.stage]];
    return std::find(program.begin(), program.end(), action) != program.end();
  }
  void Wait(const LoweredAction& a, const LoweredAction& b) {
    waits_[KeyOf(a)].push_back(KeyOf(b));
  }

  bool Visit(const Key& key) {
    int& state = state_[key];  // 1: under way, 2: done.
    if (state != 0) return state == 2;
    state = 1;
    for (const Key& other : waits_[key]) {
      if (!Visit(other)) return false;
    }
    state_[key] = 2;
    return true;
  }

  std::map<Key, std::vector<Key>> waits_;
  std::map<Key, int> state_;
};

bool Crossed(const LoweredPlan& plan) {
  std::map<std::pair<int, int>, std::vector<LoweredAction>> sent, received;
  for (int rank = 0; rank < plan.num_ranks; ++rank) {
    for (const LoweredAction& action : plan.programs[rank]) {
      if (IsSend(action.kind)) sent[{rank, action.peer}].push_back(RecvOf(plan, action));
      if (IsRecv(action.kind)) received[{action.peer, rank}].push_back(action);
    }
  }
  return sent != received;
}

struct Verdicts {
  int accepted = 0, refused = 0;
};

// The verdict is that of the graph, and what is accepted runs.
void CheckVerdict(const LoweredPlan& plan, Verdicts* verdicts) {
  const Status status = Verify(plan);
  const bool right = WaitGraph(plan).Ends() && !Crossed(plan);
  EXPECT_EQ(status.ok(), right) << status;
  if (status.ok()) {
    ++verdicts->accepted;
    size_t num_simulated = 0, num_computed = 0;
    const Simulation simulation = Simulate(plan);
    for (const RankSimulation& rank : simulation.ranks) num_simulated += rank.actions.size();
    for (const auto& program : plan.programs) {
      for (const LoweredAction& action : program) num_computed += IsCompute(action.kind);
    }
    EXPECT_EQ(num_simulated, num_computed);
  } else {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(absl::StrContains(status.message(), "\n"));
    ++verdicts->refused;
  }
}

// A number below n, of a fixed stream.
class Draws {
 public:
  int Below(int n) { return Philox(MakeRngKey(1, "moves"), next_++)[0] % n; }

 private:
  uint64_t next_ = 0;
};

// Moves an action of a rank by at most `reach` places.
template <typename T>
void MoveOne(std::vector<std::vector<T>>* orders, int reach, Draws* draws) {
  std::vector<T>& order = (*orders)[draws->Below(static_cast<int>(orders->size()))];
  const int size = static_cast<int>(order.size());
  const int from = draws->Below(size), to = std::min(size - 1, from + 1 + draws->Below(reach));
  std::rotate(order.begin() + from, order.begin() + from + 1, order.begin() + to + 1);
}

// Starts some receives only just ahead of the actions that need them.
void DelayRecvs(std::vector<LoweredAction>* program, Draws* draws) {
  for (size_t at = program->size(); at-- > 0;) {
    const LoweredAction recv = (*program)[at];
    if (!IsRecv(recv.kind) || draws->Below(4) == 0) continue;
    const auto needs = [&](const LoweredAction& action) {
      return action.stage == recv.stage && action.micro_batch == recv.micro_batch &&
             (recv.kind == K::RecvActivation ? action.kind == K::F
                                             : action.kind == K::I || action.kind == K::B);
    };
    const auto from = program->begin() + at;
    std::rotate(from, from + 1, std::find_if(from, program->end(), needs));
  }
}

TEST(VerifyTest, RandomMovesAreJudgedAsTheGraphDoes) {
  Draws draws;
  for (const auto& entry : PipelineSchedules()) {
    Verdicts of_plans, of_programs;
    for (int round = 0; round < 150; ++round) {
      Plan plan = MadePlan(entry.name, 1 + draws.Below(4), 1 + draws.Below(6));
      LoweredPlan lowered = Lower(plan);
      for (int n = 1 + draws.Below(8); n > 0; --n) MoveOne(&plan.orders, 1, &draws);
      CheckVerdict(Lower(plan), &of_plans);
      if (round % 2 == 0) {
        for (auto& program : lowered.programs) DelayRecvs(&program, &draws);
      }
      for (int n = draws.Below(4); n > 0; --n) MoveOne(&lowered.programs, 4, &draws);
      CheckVerdict(lowered, &of_programs);
      if (HasFailure()) FAIL() << entry.name << " round " << round;
    }
    for (const Verdicts& verdicts : {of_plans, of_programs}) {
      EXPECT_GT(verdicts.accepted, 10) << entry.name;
      EXPECT_GT(verdicts.refused, 10) << entry.name;
    }
  }
}

}  // namespace
}  // namespace trireme
