// trireme code: gradient codes without a run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/io/file.h"
#include "launch/command_line.h"
#include "tests/launch/program.h"

namespace trireme {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Result Invoke(std::vector<std::string> args) {
  args.insert(args.begin(), {TRIREME_PROGRAM, "code"});
  return RunToEnd(std::move(args));
}

TEST(CodeCliTest, ShowPrintsWhatACodeCostsAndDoes) {
  const Result show = Invoke({"show", "m_sgc", "--set", "n=4", "lambda=2", "--late", "1:1"});
  EXPECT_EQ(show.code, kExitDone) << show.err;
  EXPECT_THAT(
      show.out,
      AllOf(HasSubstr("m_sgc: n = 4, lambda = 2\n"), HasSubstr("\nload        0.4 of a job"),
            HasSubstr("\nredundancy  1.6 times"), HasSubstr("\ndelay       1 rounds\n"),
            HasSubstr("     1  job 1: g1; job 0: g4  (late)\n"),
            HasSubstr("     1  job 2: g1; job 1: g1\n"), HasSubstr("  job 1 decodes\n")));
  const Result lost = Invoke({"show", "uncoded", "n=2", "--late=0:1", "--rounds=1"});
  EXPECT_THAT(lost.out, HasSubstr("job 0 is lost: uncoded: what 1 of 2 workers sent"));
  EXPECT_THAT(Invoke({"show", "regular_graph", "n=8", "s=2"}).out,
              HasSubstr("squared and relative"));
}

TEST(CodeCliTest, SimulatePrintsARowAScheme) {
  const Result all = Invoke({"simulate", "--set", "n=8", "--jobs", "20", "--seeds", "2"});
  EXPECT_EQ(all.code, kExitDone) << all.err;
  for (const char* scheme :
       {"\nuncoded ", "\nuncoded, two jobs a round ", "\ngradient coding, cyclic ",
        "\nfractional repetition ", "\nSR-SGC ", "\nM-SGC ", "\nauto would take "}) {
    EXPECT_THAT(all.out, HasSubstr(scheme));
  }
  const std::string trace = TestPath("trace.txt");
  ASSERT_TRUE(WriteFileAtomically(trace, "1 2\n1 1\n3 1\n1 1\n").ok());
  const Result traced = Invoke({"simulate", "fractional_repetition", "--trace", trace});
  EXPECT_EQ(traced.code, kExitDone) << traced.err;
  EXPECT_THAT(traced.out, AllOf(HasSubstr("4 jobs, 2 workers, a trace;"), HasSubstr(" 7.00 ")));
}

TEST(CodeCliTest, RefusalsAreOneLine) {
  const auto refused = [](const std::vector<std::string>& args) {
    const Result result = Invoke(args);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    return std::pair(result.code, result.err);
  };
  EXPECT_EQ(
      refused({"show", "fractional_repetition", "n=8", "s=8"}),
      std::pair(+kExitError, std::string("trireme: INVALID_ARGUMENT: fractional_repetition: s "
                                         "= 8 stragglers of n = 8 workers, must be less\n")));
  EXPECT_EQ(refused({"show", "uncoded"}).first, kExitUsage);
  EXPECT_EQ(refused({"show"}).first, kExitUsage);
  EXPECT_EQ(refused({"shwo", "uncoded", "n=2"}).first, kExitUsage);
  EXPECT_EQ(refused({"show", "uncoded", "n=two"}).first, kExitUsage);
  EXPECT_EQ(refused({"show", "uncoded", "n=2", "x"}).first, kExitUsage);
  EXPECT_EQ(refused({"simulate", "n=4", "s=1"}).first, kExitUsage);
  EXPECT_EQ(refused({"show", "uncoded", "n=2", "--late", "0:2"}).first, kExitError);
  EXPECT_EQ(refused({"simulate", "n=4", "--mu", "-1"}).first, kExitError);
  EXPECT_EQ(refused({"simulate", "n=4", "--trace", "/nowhere"}).first, kExitError);
  EXPECT_EQ(refused({"simulate", "n=99999"}).first, kExitError);
}

}  // namespace
}  // namespace trireme
