// SR-SGC and M-SGC over every pattern of late workers of small cases, and over patterns traced by
// hand.
#include <bit>
#include <set>

#include "parallel/coding/straggler_model.h"
#include "tests/parallel/coding/code_checks.h"

namespace trireme {
namespace {

// By round, the workers that are late: bit w.
using Pattern = std::vector<uint32_t>;

// Runs the code and returns whether every job decodes by its last round. `tasks`, when given, gets
// what each worker did, by round and worker.
bool EveryJobDecodes(
    const GradientCode& code, int num_jobs, const Pattern& late,
    std::vector<std::vector<std::vector<std::pair<int64_t, int>>>>* tasks = nullptr) {
  const int n = code.shape().num_workers, delay = code.shape().delay;
  History history(code.shape(), num_jobs);
  std::vector<std::vector<int>> messages(delay + 1, std::vector<int>(n));
  for (int round = 0; round < num_jobs + delay; ++round) {
    for (int age = 0; age <= delay; ++age) {
      std::fill(messages[age].begin(), messages[age].end(), -1);
      if (history.IsOpen(round - age)) {
        code.Assign(history, age, absl::MakeSpan(messages[age]));
      }
    }
    if (tasks != nullptr) tasks->emplace_back(n);
    for (int worker = 0; worker < n; ++worker) {
      for (int age = 0; age <= delay; ++age) {
        if (messages[age][worker] < 0) continue;
        if (tasks != nullptr) {
          tasks->back()[worker].push_back({round - age, messages[age][worker]});
        }
        if (!(late[round] >> worker & 1)) {
          history.Arrive(round - age, worker, messages[age][worker]);
        }
      }
    }
    if (round >= delay && !code.Decodes(history.arrived(round - delay))) return false;
    history.NextRound();
  }
  return true;
}

// The definition, window by window.
bool IsBursty(const Pattern& late, int burst, int window, int distinct) {
  for (size_t from = 0; from < late.size(); ++from) {
    uint32_t together = 0;
    for (size_t r = from; r < std::min(from + window, late.size()); ++r) {
      together |= late[r];
      for (size_t q = from; q + burst <= r; ++q) {
        if (late[q] & late[r]) return false;
      }
    }
    if (std::popcount(together) > distinct) return false;
  }
  return true;
}

bool IsArbitrary(const Pattern& late, int times, int window, int distinct, int n) {
  for (size_t from = 0; from < late.size(); ++from) {
    uint32_t together = 0;
    std::vector<int> counts(n);
    for (size_t r = from; r < std::min(from + window, late.size()); ++r) {
      together |= late[r];
      for (int worker = 0; worker < n; ++worker) counts[worker] += late[r] >> worker & 1;
    }
    if (std::popcount(together) > distinct) return false;
    for (const int count : counts) {
      if (count > times) return false;
    }
  }
  return true;
}

// Whether StragglerWindow accepts every round of it.
bool IsAccepted(const GradientCode& code, const Pattern& late) {
  const int n = code.shape().num_workers;
  StragglerModel model = code.shape().tolerates;
  model.per_round = 0;
  StragglerWindow window(model, n);
  for (const uint32_t of_round : late) {
    WorkerSet set = EmptySet(n);
    set[0] = of_round;
    if (!window.Accepts(set, true)) return false;
    window.Push(set, true);
  }
  return true;
}

struct Counts {
  int64_t patterns = 0, bursty = 0, other = 0, decodable = 0;
  bool operator==(const Counts&) const = default;
};

// Over all patterns of num_jobs + delay rounds. `other`: arbitrary for M-SGC, s a round for SR-SGC.
Counts CountPatterns(absl::string_view name, int n, int burst, int window, int lambda, int num_jobs,
                     absl::string_view base) {
  const auto code = CodeOf(name, n,
                           {{"burst", std::to_string(burst)},
                            {"window", std::to_string(window)},
                            {"lambda", std::to_string(lambda)},
                            {"base", std::string(base)}});
  const int rounds = num_jobs + code->shape().delay;
  Counts counts;
  for (uint64_t bits = 0; bits < uint64_t{1} << (n * rounds); ++bits) {
    Pattern late;
    bool few = true;
    for (int round = 0; round < rounds; ++round) {
      late.push_back(bits >> (n * round) & ((1u << n) - 1));
      few = few && std::popcount(late.back()) <= code->shape().tolerates.per_round;
    }
    const bool bursty = IsBursty(late, burst, window, lambda);
    const bool other =
        name == "m_sgc" ? IsArbitrary(late, burst, window + burst - 1, lambda, n) : few;
    const bool decodes = EveryJobDecodes(*code, num_jobs, late);
    if (!decodes && (bursty || other)) ADD_FAILURE() << "pattern " << bits;
    if (IsAccepted(*code, late) != bursty) ADD_FAILURE() << "pattern " << bits;
    ++counts.patterns;
    counts.bursty += bursty;
    counts.other += other;
    counts.decodable += decodes;
  }
  return counts;
}

std::string Text(const Counts& c) {
  return std::to_string(c.patterns) + " " + std::to_string(c.bursty) + " " +
         std::to_string(c.other) + " " + std::to_string(c.decodable);
}

TEST(SequentialTest, MSgcOverAllPatterns) {
  constexpr char kBase[] = "cyclic_repetition";
  EXPECT_EQ(Text(CountPatterns("m_sgc", 3, 1, 2, 1, 4, kBase)), "32768 97 97 97");
  EXPECT_EQ(Text(CountPatterns("m_sgc", 3, 1, 2, 2, 4, kBase)), "32768 1015 1015 1015");
  EXPECT_EQ(Text(CountPatterns("m_sgc", 4, 1, 2, 2, 3, kBase)), "65536 797 797 797");
}

TEST(SequentialTest, SrSgcOverAllPatterns) {
  constexpr char kBase[] = "cyclic_repetition";
  EXPECT_EQ(Text(CountPatterns("sr_sgc", 3, 1, 2, 2, 4, kBase)), "32768 1015 1024 6500");
  EXPECT_EQ(Text(CountPatterns("sr_sgc", 4, 1, 2, 2, 4, kBase)), "1048576 3931 3125 59124");
}

TEST(SequentialTest, WithFractionalRepetitionWithinNoPatternIsLost) {
  constexpr char kBase[] = "fractional_repetition";
  // Groups {0, 2} and {1, 3}: more decodes than what the model says.
  const Counts sr = CountPatterns("sr_sgc", 4, 1, 2, 2, 3, kBase);
  EXPECT_GT(sr.decodable, CountPatterns("sr_sgc", 4, 1, 2, 2, 3, "cyclic_repetition").decodable);
  CountPatterns("m_sgc", 4, 1, 2, 1, 3, kBase);
  CountPatterns("m_sgc", 2, 2, 3, 1, 4, kBase);
  CountPatterns("m_sgc", 3, 1, 3, 2, 3, kBase);
  CountPatterns("m_sgc", 2, 1, 3, 2, 5, kBase);  // Retries only.
  CountPatterns("sr_sgc", 3, 2, 3, 2, 3, kBase);
}

using Tasks = std::vector<std::pair<int64_t, int>>;  // (job, message), newest job first.

TEST(SequentialTest, ATraceOfMSgc) {
  const auto code = CodeOf("m_sgc", 4, {{"lambda", "2"}, {"base", "cyclic_repetition"}});
  EXPECT_EQ(code->shape().delay, 1);
  EXPECT_DOUBLE_EQ(code->shape().load, 3.0 / 8);
  // Own parts are 3/16 of the job, shared ones 1/16.
  EXPECT_EQ(code->shape().part_units, (std::vector<int>{3, 3, 3, 3, 1, 1, 1, 1}));
  std::vector<std::vector<Tasks>> tasks;
  EXPECT_TRUE(EveryJobDecodes(*code, 3, {0b0001, 0b0010, 0, 0b0100}, &tasks));
  for (int worker = 0; worker < 4; ++worker) {
    EXPECT_EQ(tasks[0][worker], (Tasks{{0, 0}}));
    EXPECT_EQ(tasks[1][worker], worker == 0 ? (Tasks{{1, 0}, {0, 0}}) : (Tasks{{1, 0}, {0, 1}}));
    EXPECT_EQ(tasks[2][worker], worker == 1 ? (Tasks{{2, 0}, {1, 0}}) : (Tasks{{2, 0}, {1, 1}}));
    EXPECT_EQ(tasks[3][worker], (Tasks{{2, 1}}));
  }
}

TEST(SequentialTest, ATraceOfMSgcWithBursts) {
  const auto code =
      CodeOf("m_sgc", 4,
             {{"burst", "2"}, {"window", "3"}, {"lambda", "2"}, {"base", "cyclic_repetition"}});
  EXPECT_EQ(code->shape().delay, 3);
  EXPECT_DOUBLE_EQ(code->shape().load, 3.0 / 8);
  EXPECT_EQ(code->shape().num_units(), 32);
  std::vector<std::vector<Tasks>> tasks;
  EXPECT_TRUE(EveryJobDecodes(*code, 6, {1, 1, 2, 0, 0, 0, 0, 0, 0}, &tasks));
  EXPECT_EQ(tasks[2][0], (Tasks{{2, 0}, {1, 1}, {0, 0}}));
  EXPECT_EQ(tasks[3][0], (Tasks{{3, 0}, {2, 1}, {1, 0}, {0, 1}}));
  EXPECT_EQ(tasks[3][1], (Tasks{{3, 0}, {2, 1}, {1, 1}, {0, 3}}));
  EXPECT_EQ(tasks[4][1], (Tasks{{4, 0}, {3, 1}, {2, 0}, {1, 3}}));
}

TEST(SequentialTest, ATraceOfSrSgc) {
  const auto code = CodeOf("sr_sgc", 4, {{"lambda", "2"}, {"base", "cyclic_repetition"}});
  EXPECT_EQ(code->shape().tolerates.per_round, 1);
  EXPECT_EQ(code->shape().load, 0.5);
  std::vector<std::vector<Tasks>> tasks;
  EXPECT_TRUE(EveryJobDecodes(*code, 3, {0b0011, 0, 0b1100, 0}, &tasks));
  for (int worker = 0; worker < 4; ++worker) {
    EXPECT_EQ(tasks[0][worker], (Tasks{{0, 0}}));
    EXPECT_EQ(tasks[1][worker], worker == 0 ? (Tasks{{0, 0}}) : (Tasks{{1, 0}}));
    EXPECT_EQ(tasks[2][worker], (Tasks{{2, 0}}));
    EXPECT_EQ(tasks[3][worker], worker == 2 ? (Tasks{{2, 0}}) : (Tasks{}));
  }
}

TEST(SequentialTest, WhatIsDecodedIsTheGradient) {
  for (const char* base : {"fractional_repetition", "cyclic_repetition"}) {
    const auto code =
        CodeOf("m_sgc", 6, {{"burst", "1"}, {"window", "3"}, {"lambda", "2"}, {"base", base}});
    const int n = 6, delay = code->shape().delay, num_jobs = 8;
    History history(code->shape(), num_jobs);
    const Pattern late = {1, 2, 0, 0, 0b11, 0, 0, 4, 0, 0};  // Two in three rounds.
    for (int round = 0; round < num_jobs + delay; ++round) {
      std::vector<std::vector<Task>> tasks;
      for (int worker = 0; worker < n; ++worker) {
        tasks.push_back(Assignment(*code, history, worker));
      }
      for (int worker = 0; worker < n; ++worker) {
        if (late[round] >> worker & 1) continue;
        for (const Task& task : tasks[worker]) history.Arrive(task.job, worker, task.message);
      }
      if (round >= delay) {
        const StatusOr<Decoding> decoding = Decode(*code, history, round - delay);
        ASSERT_TRUE(decoding.ok()) << decoding.status();
        EXPECT_LT(LargestDeviation(*code, *decoding), 1e-9);
      }
      history.NextRound();
    }
  }
}

TEST(SequentialTest, Loads) {
  const auto redundancy = [](absl::string_view name, int n, int burst, int window, int lambda) {
    return n * CodeOf(name, n,
                      {{"burst", std::to_string(burst)},
                       {"window", std::to_string(window)},
                       {"lambda", std::to_string(lambda)},
                       {"base", "cyclic_repetition"}})
                   ->shape()
                   .load;
  };
  EXPECT_NEAR(redundancy("m_sgc", 256, 1, 2, 27) / 256, 7.0 / 928, 1e-15);
  EXPECT_DOUBLE_EQ(redundancy("m_sgc", 256, 1, 4, 4), 1.25);
  EXPECT_NEAR(redundancy("m_sgc", 256, 2, 4, 8), 1.55, 0.005);
  EXPECT_DOUBLE_EQ(redundancy("m_sgc", 16, 1, 2, 3), 1.6);
  EXPECT_NEAR(redundancy("m_sgc", 16, 1, 4, 3), 1.231, 0.0005);
  EXPECT_NEAR(redundancy("m_sgc", 8, 1, 3, 2), 1.286, 0.0005);
  EXPECT_DOUBLE_EQ(redundancy("m_sgc", 8, 1, 3, 8), 1.5) << "what retries take at most";
  EXPECT_NEAR(redundancy("sr_sgc", 256, 2, 3, 23) / 256, 0.050781, 1e-6);
  EXPECT_NEAR(redundancy("sr_sgc", 256, 4, 9, 22) / 256, 0.03515625, 1e-9);
  EXPECT_EQ(redundancy("sr_sgc", 256, 1, 2, 6), 4);
}

TEST(SequentialTest, RefusalsHaveTheNumbers) {
  const auto message = [](absl::string_view name, const ParamMap& params) {
    return std::string(MakeGradientCode(name, 4, params).status().message());
  };
  EXPECT_EQ(message("m_sgc", {{"burst", "2"}}),
            "m_sgc: n = 4, burst = 2, window = 2, lambda = 1: burst must be less than window");
  EXPECT_EQ(message("m_sgc", {{"lambda", "5"}}),
            "m_sgc: n = 4, burst = 1, window = 2, lambda = 5: lambda must be at most n");
  EXPECT_EQ(message("sr_sgc", {{"burst", "2"}, {"window", "4"}}),
            "sr_sgc: n = 4, burst = 2, window = 4, lambda = 1: window - 1 must be a multiple of "
            "burst");
}

}  // namespace
}  // namespace trireme
