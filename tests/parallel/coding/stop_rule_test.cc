#include "parallel/coding/stop_rule.h"

#include "tests/parallel/coding/code_checks.h"

namespace trireme {
namespace {

TEST(StopRuleTest, OneUnusuallyFastWorkerDoesNotCount) {
  EXPECT_EQ(RobustReference(1), 1);
  EXPECT_EQ(RobustReference(2), 1);
  EXPECT_EQ(RobustReference(3), 2);
  EXPECT_EQ(RobustReference(256), 26);
}

TEST(ForesightTest, WithoutDelayItIsWhetherTheJobDecodes) {
  const auto code = CodeOf("fractional_repetition", 4, {{"s", "1"}});
  Foresight foresight(*code);
  for (uint64_t survivors = 0; survivors < 16; ++survivors) {
    History history(code->shape());
    for (int worker = 0; worker < 4; ++worker) {
      if (survivors >> worker & 1) history.Arrive(0, worker, 0);
    }
    EXPECT_EQ(foresight.Feasible(history), code->Decodes(history.arrived(0))) << survivors;
  }
}

// Every pattern: a round's arrivals are feasible exactly when, with nobody late any more, all jobs
// decode; and more arrivals never make it worse, which the search for the first feasible one takes
// for granted.
TEST(ForesightTest, SequentialCodesOverAllPatterns) {
  struct Case {
    const char* name;
    int n, burst, window, lambda;
    int rounds;
  };
  for (const Case& c :
       {Case{"sr_sgc", 3, 1, 2, 2, 3}, Case{"sr_sgc", 3, 2, 3, 2, 3}, Case{"m_sgc", 3, 1, 2, 2, 3},
        Case{"m_sgc", 3, 1, 3, 1, 3}, Case{"m_sgc", 3, 1, 2, 3, 3}, Case{"m_sgc", 2, 2, 3, 1, 4}}) {
    const auto code = CodeOf(c.name, c.n,
                             {{"burst", std::to_string(c.burst)},
                              {"window", std::to_string(c.window)},
                              {"lambda", std::to_string(c.lambda)}});
    SCOPED_TRACE(c.name);
    Foresight foresight(*code);
    const int delay = code->shape().delay;
    const auto play = [&](History* history, uint32_t late) {
      std::vector<std::vector<Task>> tasks;
      for (int worker = 0; worker < c.n; ++worker) {
        tasks.push_back(Assignment(*code, *history, worker));
      }
      for (int worker = 0; worker < c.n; ++worker) {
        if (late >> worker & 1) continue;
        for (const Task& task : tasks[worker]) history->Arrive(task.job, worker, task.message);
      }
    };
    for (uint32_t bits = 0; bits < 1u << (c.n * c.rounds); ++bits) {
      History history(code->shape());
      for (int round = 0; round + 1 < c.rounds; ++round) {
        play(&history, bits >> (c.n * round) & ((1u << c.n) - 1));
        history.NextRound();
      }
      const uint32_t late = bits >> (c.n * (c.rounds - 1));
      History now = history;
      play(&now, late);
      const bool feasible = foresight.Feasible(now);
      History later = now;
      bool all = true;
      for (int ahead = 0; ahead <= delay; ++ahead) {
        if (ahead > 0) {
          later.NextRound();
          play(&later, 0);
        }
        const int64_t due = later.round() - delay;
        all &= !later.IsOpen(due) || code->Decodes(later.arrived(due));
      }
      ASSERT_EQ(feasible, all) << bits;
      for (int worker = 0; feasible && worker < c.n; ++worker) {
        History more = history;
        play(&more, late & ~(1u << worker));
        ASSERT_TRUE(foresight.Feasible(more)) << bits << " with worker " << worker;
      }
    }
  }
}

}  // namespace
}  // namespace trireme
