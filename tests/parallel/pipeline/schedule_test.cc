// Every registered schedule, for all small sizes: its plan runs, and takes and holds what it is
// known to. Golden makespans and peaks were simulated apart, with tF = tI = tW = 1.
#include "parallel/pipeline/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "parallel/pipeline/lower.h"
#include "parallel/pipeline/simulate.h"
#include "parallel/pipeline/verify.h"

namespace trireme {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

StatusOr<Plan> Make(absl::string_view name, int p, int m, int chunks) {
  return MakePlan(name, p, m, {{"chunks", absl::StrCat(chunks)}});
}

Simulation SimulateSchedule(absl::string_view name, int p, int m, int chunks) {
  const StatusOr<Plan> plan = Make(name, p, m, chunks);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return Simulate(Lower(*plan));
}

std::vector<double> Peaks(const Simulation& simulation) {
  std::vector<double> peaks;
  for (const RankSimulation& rank : simulation.ranks) peaks.push_back(rank.peak_in_flight);
  return peaks;
}

TEST(PipelineScheduleTest, GoldenMakespans) {
  const struct {
    const char* name;
    int chunks;
    double makespan[3];
  } goldens[] = {
      {"gpipe", 1, {15, 33, 69}},
      {"1f1b", 1, {15, 33, 69}},
      {"interleaved", 2, {13.5, 28.5, 58.5}},
      {"interleaved", 4, {12.75, 26.25, 53.25}},
      {"bfs", 2, {13.5, 28.5, 58.5}},
      {"zb_h1", 1, {13, 27, 55}},
      {"zb_h2", 1, {13, 27, 55}},
      {"zb_v", 2, {12.5, 25.5, 51.5}},
      {"dualpipe_v", 2, {12.5, 25.5, 51.5}},
  };
  for (const auto& golden : goldens) {
    for (int k = 0; k < 3; ++k) {
      const int p = 2 << k, m = 2 * p;
      EXPECT_EQ(SimulateSchedule(golden.name, p, m, golden.chunks).makespan, golden.makespan[k])
          << golden.name << " p=" << p;
    }
  }
  EXPECT_EQ(SimulateSchedule("zb_v", 4, 4, 2).makespan, 15);
  EXPECT_EQ(SimulateSchedule("zb_v", 4, 4, 2).ranks[0].idle, 3);
}

TEST(PipelineScheduleTest, GoldenPeaks) {
  using Doubles = std::vector<double>;
  const auto peaks = [](const char* name, int p, int chunks) {
    return Peaks(SimulateSchedule(name, p, 2 * p, chunks));
  };
  EXPECT_EQ(peaks("gpipe", 4, 1), Doubles(4, 8));
  EXPECT_EQ(peaks("bfs", 4, 2), Doubles(4, 8));
  EXPECT_EQ(peaks("1f1b", 4, 1), (Doubles{4, 3, 2, 1}));
  EXPECT_EQ(peaks("interleaved", 4, 2), (Doubles{5.5, 4.5, 3.5, 2.5}));
  EXPECT_EQ(peaks("interleaved", 4, 4), (Doubles{4.75, 4.25, 3.75, 3.25}));
  EXPECT_EQ(peaks("interleaved", 8, 2), (Doubles{11.5, 10.5, 9.5, 8.5, 7.5, 6.5, 5.5, 4.5}));
  EXPECT_EQ(peaks("zb_h1", 4, 1), Doubles(4, 4));
  EXPECT_EQ(peaks("zb_h2", 4, 1), Doubles(4, 7));
  EXPECT_EQ(peaks("zb_h2", 8, 1), Doubles(8, 15));
  EXPECT_EQ(peaks("zb_v", 4, 2), Doubles(4, 4));
  EXPECT_EQ(peaks("zb_v", 8, 2), Doubles(8, 8));
  EXPECT_EQ(peaks("dualpipe_v", 4, 2), Doubles(4, 4.5));
  EXPECT_EQ(peaks("dualpipe_v", 8, 2), Doubles(8, 8.5));
}

// What is known in closed form, with tF = tI = tW = 1; empty where nothing is.
struct Known {
  std::vector<double> idle;  // Of each rank, like all three.
  std::vector<double> idle_inside;
  std::vector<double> peak;
};

Known WhatIsKnown(const std::string& name, int p, int m, int v) {
  const auto each = [&](auto&& fn) {
    std::vector<double> values;
    for (int rank = 0; rank < p; ++rank) values.push_back(fn(rank));
    return values;
  };
  const auto all = [&](double value) { return std::vector<double>(p, value); };
  const auto when = [&](bool known, double value) {
    return known ? all(value) : std::vector<double>();
  };
  const double bubble = 3.0 * (p - 1);
  if (name == "gpipe") return {all(bubble), {}, all(m)};
  if (name == "1f1b" || (name == "interleaved" && v == 1)) {
    return {all(bubble), {}, each([&](int rank) { return std::min(p - rank, m); })};
  }
  if (name == "bfs") return {when(m >= p || v == 1, bubble / v), {}, all(m)};
  if (name == "interleaved") {
    const int groups = std::max(1, m / p), group = (m + groups - 1) / groups;
    const auto peak = [&](int rank) {
      return std::min<double>(m, ((v - 1) * group + 2 * (p - rank - 1) + 1.0) / v);
    };
    return {when(m >= p, bubble / v), {}, each(peak)};
  }
  if (name == "zb_h1") return {when(m >= p, p - 1), {}, all(std::min(p, m))};
  if (name == "zb_h2") {
    const bool enough = m >= 2 * p - 1;
    return {when(enough, p - 1), when(enough, 0), all(std::min(2 * p - 1, m))};
  }
  if (name == "zb_v") {
    const bool enough = m >= 2 * p - 1;
    return {when(enough, (p - 1) / 2.0), when(enough, 0), when(enough, p)};
  }
  if (name == "dualpipe_v") {
    const bool enough = m >= 2 * p;
    return {when(enough, (p - 1) / 2.0), {}, when(enough, p + 0.5)};
  }
  ADD_FAILURE() << "what is known of " << name << "?";
  return {};
}

void ExpectKnown(const Simulation& simulation, double RankSimulation::*member,
                 const std::vector<double>& known, const char* what) {
  if (known.empty()) return;
  for (size_t rank = 0; rank < known.size(); ++rank) {
    EXPECT_NEAR(simulation.ranks[rank].*member, known[rank], 1e-9) << what << " of rank " << rank;
  }
}

// The most that a rank may hold, whatever the number of micro-batches.
double PeakLimit(const std::string& name, int p, int m) {
  if (name == "1f1b" || name == "zb_h1" || name == "zb_v") return std::min(p, m);
  if (name == "zb_h2") return std::min(2 * p - 1, m);
  if (name == "dualpipe_v") return std::min<double>(p + 0.5, m);
  return m;
}

void CheckPlan(const std::string& name, int p, int m, int v, const Plan& plan) {
  EXPECT_EQ(plan.num_ranks, p);
  EXPECT_EQ(plan.num_micro_batches, m);
  EXPECT_EQ(plan.num_chunks, v);
  EXPECT_EQ(plan.num_stages(), p * v);
  const LoweredPlan lowered = Lower(plan);
  ASSERT_EQ(Verify(lowered), absl::OkStatus());
  const Simulation simulation = Simulate(lowered);
  const Known known = WhatIsKnown(name, p, m, v);
  ExpectKnown(simulation, &RankSimulation::idle, known.idle, "idle");
  ExpectKnown(simulation, &RankSimulation::idle_inside, known.idle_inside, "idle inside");
  ExpectKnown(simulation, &RankSimulation::peak_in_flight, known.peak, "peak");
  for (const RankSimulation& rank : simulation.ranks) {
    EXPECT_LE(rank.peak_in_flight, PeakLimit(name, p, m));
    EXPECT_NEAR(rank.idle, simulation.makespan - 3 * m, 1e-9);
  }
}

TEST(PipelineScheduleTest, AllSmallSizes) {
  int num_refused = 0, num_checked = 0;
  for (const auto& entry : PipelineSchedules()) {
    for (int p = 1; p <= 8; ++p) {
      for (int m = 1; m <= 32; ++m) {
        for (int v = 1; v <= 4; ++v) {
          SCOPED_TRACE(absl::StrCat(entry.name, " p=", p, " m=", m, " v=", v));
          const StatusOr<Plan> plan = Make(entry.name, p, m, v);
          if (!plan.ok()) {
            EXPECT_TRUE(absl::StartsWith(plan.status().message(), absl::StrCat(entry.name, ": ")));
            ++num_refused;
            continue;
          }
          CheckPlan(entry.name, p, m, v, *plan);
          ++num_checked;
          if (HasFailure()) return;
        }
      }
    }
  }
  // 8 x 32 sizes: two schedules take any number of chunks, six take one number.
  EXPECT_EQ(num_checked, 256 * (2 * 4 + 6));
  EXPECT_EQ(num_refused, 256 * 6 * 3);
}

TEST(PipelineScheduleTest, WhatCannotBeTakenIsRefusedByName) {
  const auto message = [](absl::string_view name, int64_t p, int64_t m, const ParamMap& params) {
    const Status status = MakePlan(name, p, m, params).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(message("1f1b", 0, 4, {}), "1f1b: ranks = 0, must be at least 1");
  EXPECT_EQ(message("1f1b", 4, 0, {}), "1f1b: micro-batches = 0, must be at least 1");
  EXPECT_EQ(message("gpipe", -1, -1, {}), "gpipe: ranks = -1, must be at least 1");
  EXPECT_THAT(message("1f1b", 2, 4, {{"chunks", "2"}}),
              AllOf(StartsWith("1f1b: chunks"), HasSubstr("[1, 1]")));
  EXPECT_THAT(message("zb_v", 2, 4, {{"chunks", "4"}}),
              AllOf(StartsWith("zb_v: chunks"), HasSubstr("[2, 2]")));
  EXPECT_THAT(message("bfs", 2, 4, {{"chunks", "0"}}), StartsWith("bfs: chunks"));
  EXPECT_THAT(message("bfs", 2, 4, {{"chnks", "1"}}), HasSubstr("did you mean 'chunks'?"));
  EXPECT_EQ(message("interleaved", 64, 4, {{"chunks", "65"}}),
            "interleaved: ranks = 64 with chunks = 65 are more than 4096 stages");
  EXPECT_EQ(message("interleaved", 64, 1 << 20, {}),
            "interleaved: micro-batches = 1048576, at most 32768 with 128 stages");
  const int64_t most = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(message("interleaved", most, most, {{"chunks", absl::StrCat(most)}}),
              HasSubstr("stages"));
  EXPECT_THAT(message("zb_h3", 2, 4, {}), HasSubstr("did you mean 'zb_h1'?"));
}

TEST(PipelineScheduleTest, TheLargestPlansAreMadeAndRun) {
  for (const auto& entry : PipelineSchedules()) {
    for (const auto& [p, m] : {std::pair(2048, 1), std::pair(1, 1 << 14), std::pair(64, 512)}) {
      const StatusOr<Plan> plan = MakePlan(entry.name, p, m);
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_EQ(Verify(Lower(*plan)), absl::OkStatus()) << entry.name << " " << p << " " << m;
    }
  }
}

TEST(PipelineScheduleTest, OneChunkIsTheScheduleWithoutChunks) {
  for (const auto& [p, m] : {std::pair(1, 3), std::pair(4, 2), std::pair(4, 9)}) {
    EXPECT_EQ(Make("interleaved", p, m, 1)->orders, MakePlan("1f1b", p, m)->orders);
  }
}

TEST(PipelineScheduleTest, Placements) {
  EXPECT_EQ(LoopPlacement(3, 1, 2).rank_of_stage, (std::vector<int>{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(VPlacement(3, 1).rank_of_stage, (std::vector<int>{0, 1, 2, 2, 1, 0}));
  EXPECT_EQ(VPlacement(3, 1).ChunkOf(2), 0);
  EXPECT_EQ(VPlacement(3, 1).ChunkOf(3), 1);
}

}  // namespace
}  // namespace trireme
