// What is known of single codes: worked examples, coefficients, errors.
#include <numeric>

#include "parallel/coding/linear_code.h"
#include "tests/parallel/coding/code_checks.h"

namespace trireme {
namespace {

TEST(LinearCodeTest, TheExampleOfThreeWorkers) {
  // Tandon et al. 2017, section 1: g1 / 2 + g2, g2 - g3, g1 / 2 + g3.
  Matrix b(3, 3);
  b.data = {0.5, 1, 0, 0, 1, -1, 0.5, 0, 1};
  const CodeMatrix matrix(b);
  EXPECT_EQ(matrix.num_tolerated(), 1);
  const double expected[3][3] = {{0, 1, 2}, {1, 0, 1}, {2, -1, 0}};
  for (int late = 0; late < 3; ++late) {
    const auto weights = matrix.Weights(Arrived(3, 0b111 & ~(1u << late)));
    ASSERT_TRUE(weights.ok()) << weights.status();
    for (int worker = 0; worker < 3; ++worker) {
      EXPECT_NEAR((*weights)[worker], expected[late][worker], 1e-12);
    }
  }
  EXPECT_FALSE(matrix.Weights(Arrived(3, 0b001)).ok());
}

TEST(CyclicMdsTest, Coefficients) {
  const auto coefficients = [](int n, int s) {
    std::vector<double> values(s + 1);
    for (const PartTerm& term :
         CodeOf("cyclic_mds", n, {{"s", std::to_string(s)}})->MessageOf(0, 0).parts) {
      values.at(term.part) = term.weight;
    }
    return values;
  };
  const auto expect = [&](int n, int s, const std::vector<double>& expected) {
    const std::vector<double> values = coefficients(n, s);
    for (int i = 0; i <= s; ++i) EXPECT_NEAR(values[i], expected[i], 1e-6) << n << " " << s;
  };
  expect(4, 1, {1, 1});
  expect(5, 2, {0.618034, 1, 0.618034});
  expect(8, 3, {0.414214, 1, 1, 0.414214});
  expect(1, 0, {1});
}

TEST(CyclicMdsTest, OneStragglerOfAnEvenNumberTakesWeightsZeroAndOne) {
  for (const int n : {2, 4, 8, 64}) {
    const auto code = CodeOf("cyclic_mds", n);
    std::vector<uint64_t> arrived(n, 1);
    arrived[n / 2] = 0;
    const StatusOr<Decoding> decoding = code->Decode(arrived);
    ASSERT_TRUE(decoding.ok());
    EXPECT_NEAR(NoiseAmplification(*code, *decoding), 1, 1e-9);
    for (const DecodeTerm& term : decoding->terms) {
      EXPECT_LT(std::abs(term.weight * (term.weight - 1)), 1e-9) << term.weight;
    }
  }
}

TEST(CyclicMdsTest, RefusesWhatIsNotRealOrAmplifiesErrors) {
  EXPECT_EQ(MakeGradientCode("cyclic_mds", 8, {{"s", "2"}}).status().message(),
            "cyclic_mds: n = 8, s = 2: not real, for n - s is even");
  EXPECT_TRUE(MakeGradientCode("cyclic_mds", 64, {{"s", "3"}}).ok());
  const Status wide = MakeGradientCode("cyclic_mds", 64, {{"s", "7"}}).status();
  EXPECT_NE(std::string(wide.message()).find("rounding errors are amplified"), std::string::npos)
      << wide;
}

TEST(CyclicRepetitionTest, TheSeedIsChosenByItsWorstSet) {
  // Worst sets of 16 workers, 3 stragglers: one seed against the best of many.
  const auto worst = [](const ParamMap& params) {
    const auto code = CodeOf("cyclic_repetition", 16, params);
    double largest = 0;
    for (int first = 0; first < 16; ++first) {
      std::vector<uint64_t> arrived(16, 1);
      for (int i = 0; i < 3; ++i) arrived[(first + i) % 16] = 0;
      const StatusOr<Decoding> decoding = code->Decode(arrived);
      EXPECT_TRUE(decoding.ok());
      EXPECT_LT(LargestDeviation(*code, *decoding), 1e-6);
      largest = std::max(largest, NoiseAmplification(*code, *decoding));
    }
    return largest;
  };
  double of_single_seeds = INFINITY;
  for (int seed = 0; seed < 20; ++seed) {
    of_single_seeds = std::min(of_single_seeds,
                               worst({{"s", "3"}, {"seeds", "1"}, {"seed", std::to_string(seed)}}));
  }
  EXPECT_LT(worst({{"s", "3"}, {"seeds", "20"}}), 2000);
  EXPECT_GE(worst({{"s", "3"}, {"seeds", "20"}}), of_single_seeds);
}

TEST(CommunicationEfficientTest, TwoHalvesAndTheirSum) {
  const auto code = CodeOf("communication_efficient", 6, {{"s", "1"}, {"blocks", "2"}});
  EXPECT_EQ(code->shape().load, 0.5);
  EXPECT_EQ(code->MessageOf(0, 0).blocks, (std::vector<double>{1, 0}));
  EXPECT_EQ(code->MessageOf(2, 0).blocks, (std::vector<double>{0, 1}));
  EXPECT_EQ(code->MessageOf(4, 0).blocks, (std::vector<double>{1, 1}));
  // Group 0 without its second half: the sum less the first.
  const StatusOr<Decoding> decoding = code->Decode(Arrived(6, 0b111011));
  ASSERT_TRUE(decoding.ok());
  EXPECT_LT(LargestDeviation(*code, *decoding), 1e-12);
  EXPECT_EQ(decoding->terms[0], (DecodeTerm{0, 0, 0, 1.0}));
}

TEST(NestedTest, EachLevelDecodesWithItsStragglersAndNoMore) {
  for (const int n : {4, 7, 8}) {
    const auto code = CodeOf("nested", n, {{"s", "3"}});
    ASSERT_EQ(code->shape().num_messages, 3);
    for (int level = 0; level < 3; ++level) {
      const int s = (4 >> level) - 1;
      bool one_more_fails = false;
      for (uint64_t survivors = 0; survivors < uint64_t{1} << n; ++survivors) {
        History history(code->shape());
        history.NextRound(level);
        std::vector<int> messages(n);
        code->Assign(history, 0, absl::MakeSpan(messages));
        for (int worker = 0; worker < n; ++worker) {
          ASSERT_EQ(messages[worker], level);
          if (survivors >> worker & 1) history.Arrive(1, worker, messages[worker]);
        }
        const StatusOr<Decoding> decoding = Decode(*code, history, 1);
        const int late = n - std::popcount(survivors);
        if (late <= s) {
          ASSERT_TRUE(decoding.ok()) << level << " " << survivors;
        }
        if (!decoding.ok()) {
          one_more_fails |= late == s + 1;
          continue;
        }
        ASSERT_LT(LargestDeviation(*code, *decoding), 1e-12);
      }
      EXPECT_TRUE(one_more_fails || n % 4 != 0) << level;
    }
  }
}

TEST(NestedTest, LevelsMixWithinAJob) {
  const auto code = CodeOf("nested", 4, {{"s", "3"}});
  // All four parts from nobody; halves {0, 1} from worker 1, parts 2 and 3 from their own.
  const std::vector<uint64_t> arrived = {0, 0b010, 0b100, 0b100};
  const StatusOr<Decoding> decoding = code->Decode(arrived);
  ASSERT_TRUE(decoding.ok()) << decoding.status();
  EXPECT_LT(LargestDeviation(*code, *decoding), 1e-12);
  EXPECT_FALSE(code->Decodes(std::vector<uint64_t>{0, 0b010, 0b100, 0}));
}

TEST(ApproximateCodesTest, LeastSquaresIsNoWorseThanOneWeight) {
  for (const char* name : {"bernoulli", "regular_graph"}) {
    const auto optimal = CodeOf(name, 8, {{"s", "3"}, {"replicas", "3"}});
    const auto one_step = CodeOf(name, 8, {{"s", "3"}, {"replicas", "3"}, {"decoder", "one_step"}});
    double sum = 0;
    for (uint64_t survivors = 0; survivors < 256; ++survivors) {
      const auto arrived = Arrived(8, survivors);
      if (!optimal->Decodes(arrived)) continue;
      const double best = optimal->Decode(arrived)->error;
      EXPECT_LE(best, one_step->Decode(arrived)->error + 1e-12);
      sum += best;
    }
    EXPECT_GT(sum, 0) << "an estimate that is never wrong";
  }
  // All workers of a regular graph: every part comes out right with either.
  for (const char* decoder : {"optimal", "one_step"}) {
    const auto code = CodeOf("regular_graph", 8, {{"replicas", "3"}, {"decoder", decoder}});
    EXPECT_NEAR(code->Decode(Arrived(8, 255))->error, 0, 1e-20);
  }
}

TEST(ApproximateCodesTest, StochasticIsRightOnAverage) {
  // Over all survivor sets, each with its probability when workers are late one in four times.
  const int n = 8;
  const auto code = CodeOf("stochastic", n, {{"s", "7"}, {"replicas", "2"}, {"late", "0.25"}});
  std::vector<double> mean(n);
  for (uint64_t survivors = 1; survivors < 256; ++survivors) {
    const int arrived = std::popcount(survivors);
    const double probability = std::pow(0.75, arrived) * std::pow(0.25, n - arrived);
    const Coefficients coefficients = CoefficientsOf(*code, *code->Decode(Arrived(n, survivors)));
    for (int part = 0; part < n; ++part) mean[part] += probability * coefficients[0][0][part];
  }
  for (const double value : mean) EXPECT_NEAR(value, 1, 1e-12);
}

}  // namespace
}  // namespace trireme
