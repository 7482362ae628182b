// Every registered code, every survivor set for n <= 8.
#include "parallel/coding/gradient_code.h"

#include <bit>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"

#include "tests/parallel/coding/code_checks.h"

namespace trireme {
namespace {

// Values of a parameter that are tried for n workers; the rest keep their defaults.
std::vector<std::string> ValuesOf(const ParamInfo& info, int n) {
  const auto range = [](int from, int to) {
    std::vector<std::string> values;
    for (int value = from; value <= to; ++value) values.push_back(absl::StrCat(value));
    return values;
  };
  const absl::string_view key = info.key;
  if (key == "s") return range(0, n - 1);
  if (key == "blocks") return range(1, 3);
  if (key == "burst") return range(1, 2);
  if (key == "window") return range(2, 4);
  if (key == "lambda") return range(0, n);
  if (key == "base") return {"fractional_repetition", "cyclic_repetition"};
  return {};
}

std::vector<ParamMap> ParamsOf(const Entry<GradientCodeFactory>& entry, int n) {
  std::vector<ParamMap> all = {{}};
  for (const ParamInfo& info : entry.params) {
    const std::vector<std::string> values = ValuesOf(info, n);
    if (values.empty()) continue;
    std::vector<ParamMap> longer;
    for (const ParamMap& params : all) {
      for (const std::string& value : values) {
        longer.push_back(params);
        longer.back()[info.key] = value;
      }
    }
    all = std::move(longer);
  }
  return all;
}

std::string Text(const ParamMap& params) {
  std::string text;
  for (const auto& [key, value] : params) absl::StrAppend(&text, " ", key, "=", value);
  return text;
}

// fn(code) for every entry and all its parameters that some code satisfies, n from 1 to max_n.
template <typename Fn>
void ForEachCode(int max_n, const Fn& fn) {
  for (const Entry<GradientCodeFactory>& entry : GradientCodes()) {
    int num_made = 0;
    for (int n = 1; n <= max_n; ++n) {
      for (const ParamMap& params : ParamsOf(entry, n)) {
        const auto code = MakeGradientCode(entry.name, n, params);
        if (!code.ok()) {
          EXPECT_EQ(code.status().code(), absl::StatusCode::kInvalidArgument) << code.status();
          EXPECT_EQ(code.status().message().find(entry.name), 0u) << code.status();
          continue;
        }
        ++num_made;
        SCOPED_TRACE(absl::StrCat(entry.name, " n=", n, Text(params)));
        fn(**code);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
    EXPECT_GE(num_made, 3) << entry.name;
  }
}

TEST(GradientCodeTest, EverySurvivorSetDecodesOrIsRefused) {
  ForEachCode(8, [](const GradientCode& code) {
    const CodeShape& shape = code.shape();
    if (shape.delay > 0) return;  // Patterns of rounds: sequential_test.cc.
    const int n = shape.num_workers, s = shape.tolerates.per_round;
    ASSERT_GE(s, 0);
    ASSERT_LT(s, n);
    int num_refused = 0;
    for (uint64_t survivors = 0; survivors < uint64_t{1} << n; ++survivors) {
      const std::vector<uint64_t> arrived = Arrived(n, survivors);
      const StatusOr<Decoding> decoding = code.Decode(arrived);
      ASSERT_EQ(code.Decodes(arrived), decoding.ok()) << survivors << " " << decoding.status();
      const int stragglers = n - std::popcount(survivors);
      if (stragglers <= s) {
        ASSERT_TRUE(decoding.ok()) << survivors << " " << decoding.status();
      }
      if (!decoding.ok()) {
        EXPECT_EQ(decoding.status().code(), absl::StatusCode::kFailedPrecondition);
        num_refused += stragglers == s + 1;
        continue;
      }
      for (const DecodeTerm& term : decoding->terms) {
        ASSERT_TRUE(survivors >> term.worker & 1) << "uses what has not arrived";
      }
      if (shape.exact) {
        ASSERT_LT(LargestDeviation(code, *decoding), 1e-8) << survivors;
        ASSERT_EQ(decoding->error, 0);
      } else {
        double error = 0;
        const Coefficients coefficients = CoefficientsOf(code, *decoding);
        for (int part = 0; part < shape.num_parts(); ++part) {
          const double c = coefficients[0][0][part] - 1;
          error += c * c * shape.part_units[part] / shape.num_units();
        }
        ASSERT_NEAR(decoding->error, error, 1e-9) << survivors;
      }
    }
    ASSERT_GT(num_refused, 0) << "every set of " << s + 1 << " stragglers decodes too";
  });
}

TEST(GradientCodeTest, LoadsAreThoseOfTheMessages) {
  ForEachCode(8, [](const GradientCode& code) {
    const CodeShape& shape = code.shape();
    ASSERT_GE(shape.num_messages, 1);
    ASSERT_LE(shape.num_messages, 64);
    std::set<int> held;
    for (int worker = 0; worker < shape.num_workers; ++worker) {
      for (int message = 0; message < shape.num_messages; ++message) {
        const Message content = code.MessageOf(worker, message);
        ASSERT_EQ(content.blocks.size(), static_cast<size_t>(shape.num_blocks));
        int64_t units = 0;
        std::set<int> parts;
        for (const PartTerm& term : content.parts) {
          ASSERT_TRUE(parts.insert(term.part).second) << "part " << term.part << " twice";
          units += shape.part_units.at(term.part);
          held.insert(term.part);
        }
        ASSERT_NEAR(code.LoadOf(worker, message), double(units) / shape.num_units(), 1e-12);
        ASSERT_LE(code.LoadOf(worker, message), shape.load + 1e-12);
      }
    }
    if (shape.exact) {
      ASSERT_EQ(held.size(), static_cast<size_t>(shape.num_parts()));
    }
  });
}

TEST(GradientCodeTest, WithoutStragglersEveryJobDecodesOnTime) {
  ForEachCode(5, [](const GradientCode& code) {
    const CodeShape& shape = code.shape();
    constexpr int kJobs = 4;
    History history(shape, kJobs);
    for (int round = 0; round < kJobs + shape.delay; ++round) {
      double largest = 0;
      std::vector<std::vector<Task>> tasks(shape.num_workers);
      for (int worker = 0; worker < shape.num_workers; ++worker) {
        tasks[worker] = Assignment(code, history, worker);
        double load = 0;
        for (const Task& task : tasks[worker]) {
          ASSERT_TRUE(history.IsOpen(task.job));
          load += code.LoadOf(worker, task.message);
        }
        largest = std::max(largest, load);
      }
      ASSERT_LE(largest, shape.load + 1e-12);
      for (int worker = 0; worker < shape.num_workers; ++worker) {
        for (const Task& task : tasks[worker]) history.Arrive(task.job, worker, task.message);
      }
      if (round >= shape.delay) {
        const StatusOr<Decoding> decoding = Decode(code, history, round - shape.delay);
        ASSERT_TRUE(decoding.ok()) << decoding.status();
        if (shape.exact) {
          ASSERT_LT(LargestDeviation(code, *decoding), 1e-8);
        }
      }
      history.NextRound();
    }
  });
}

TEST(GradientCodeTest, PartsAreWholeMicroBatches) {
  ForEachCode(6, [](const GradientCode& code) {
    const CodeShape& shape = code.shape();
    for (const int64_t micro_batches :
         {int64_t{0}, int64_t{1}, int64_t{7}, 3 * shape.num_units()}) {
      const std::vector<int64_t> boundaries = PartBoundaries(shape, micro_batches);
      ASSERT_EQ(boundaries.size(), shape.part_units.size() + 1);
      ASSERT_EQ(boundaries.front(), 0);
      ASSERT_EQ(boundaries.back(), micro_batches);
      for (int part = 0; part < shape.num_parts(); ++part) {
        const int64_t size = boundaries[part + 1] - boundaries[part];
        const double exact =
            double(micro_batches) * shape.part_units[part] / double(shape.num_units());
        ASSERT_LT(std::abs(size - exact), 1);
        if (micro_batches == 3 * shape.num_units()) {
          ASSERT_EQ(size, 3 * shape.part_units[part]);
        }
      }
    }
  });
}

TEST(FractionalRepetitionTest, AnyNumberOfWorkers) {
  // 7 = 4 + 3: groups {0, 2, 4, 6} and {1, 3, 5}.
  const auto code = CodeOf("fractional_repetition", 7, {{"s", "2"}});
  EXPECT_EQ(code->shape().load, 0.5);
  EXPECT_EQ(code->shape().tolerates.per_round, 2);
  const StatusOr<Decoding> decoding = code->Decode(Arrived(7, 0b1101000));
  ASSERT_TRUE(decoding.ok());
  // In the order of the groups, the first by number of each.
  EXPECT_EQ(decoding->terms, (std::vector<DecodeTerm>{{6, 0, 0, 1}, {3, 0, 0, 1}}));
  EXPECT_EQ(NoiseAmplification(*code, *decoding), 1);
  EXPECT_FALSE(code->Decodes(Arrived(7, 0b1010101)));
  // Groups of four bear three stragglers though two were asked for.
  EXPECT_EQ(CodeOf("fractional_repetition", 8, {{"s", "2"}})->shape().tolerates.per_round, 3);
  EXPECT_NEAR(CodeOf("fractional_repetition", 256, {{"s", "27"}})->shape().load, 1.0 / 9, 1e-15);
}

TEST(GradientCodeTest, RefusalsHaveTheNumbers) {
  const auto message = [](absl::string_view name, int64_t n, const ParamMap& params) {
    return std::string(MakeGradientCode(name, n, params).status().message());
  };
  EXPECT_EQ(message("fractional_repetition", 4, {{"s", "4"}}),
            "fractional_repetition: s = 4 stragglers of n = 4 workers, must be less");
  EXPECT_EQ(message("uncoded", 0, {}), "uncoded: n = 0 workers, must be between 1 and 4096");
  EXPECT_EQ(message("uncoded", 4, {{"s", "1"}}), "uncoded: unknown parameter 's'; none is known");
  EXPECT_EQ(message("fractional_repetitoin", 4, {}),
            "unknown gradient_code 'fractional_repetitoin'; did you mean 'fractional_repetition'?");
  EXPECT_EQ(CodeOf("fractional_repetition", 4)->Decode(Arrived(4, 0b0101)).status().message(),
            "fractional_repetition: what 2 of 4 workers sent does not decode; 1 stragglers a round "
            "are tolerated");
}

TEST(HistoryTest, ClosedJobsTakeNothing) {
  CodeShape shape;
  shape.num_workers = 2;
  shape.delay = 1;
  History history(shape, 2);
  EXPECT_TRUE(history.IsOpen(0));
  EXPECT_FALSE(history.IsOpen(1)) << "has not begun";
  history.Arrive(0, 1, 3);
  history.NextRound(2);
  EXPECT_EQ(history.arrived(0)[1], 8u);
  EXPECT_EQ(history.arrived(1)[1], 0u);
  EXPECT_EQ(history.level(0), 0);
  EXPECT_EQ(history.level(1), 2);
  history.NextRound();
  EXPECT_FALSE(history.IsOpen(2)) << "there are two";
  history.Arrive(0, 1, 3);  // Its row is job 2's now.
  EXPECT_EQ(history.arrived(2)[1], 0u);
  EXPECT_TRUE(history.IsOpen(1));
}

}  // namespace
}  // namespace trireme
