#include "launch/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "core/io/file.h"
#include "launch/run_dir.h"
#include "launch/run_reporter.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// What a Progress writes, by a clock that tests move.
class ProgressTest : public ::testing::Test {
 protected:
  ProgressTest()
      : path_(JoinPath(::testing::TempDir(), absl::StrCat("progress_", getpid(), ".txt"))) {
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    options_.fd = fd_;
    options_.num_steps = 1000;
    options_.clock = [this] { return now_; };
  }
  ~ProgressTest() override { close(fd_); }

  static StepMetrics Step(int64_t step) {
    StepMetrics metrics;
    metrics.step = step;
    metrics.loss = 2.5;
    metrics.tokens = 5000;
    metrics.step_seconds = 0.5;
    metrics.model_flops = 1e9;
    return metrics;
  }
  std::string Written() { return *ReadFile(path_); }

  std::string path_;
  int fd_ = -1;
  absl::Time now_ = absl::FromUnixSeconds(1000);
  ProgressOptions options_;
};

TEST_F(ProgressTest, FirstStepsThenEveryTenSeconds) {
  Progress progress(options_);
  for (int step = 1; step <= 100; ++step) {
    now_ += absl::Milliseconds(500);
    progress.Step(Step(step));
  }
  progress.Finish();
  const std::string text = Written();
  EXPECT_THAT(text, Not(HasSubstr("\r")));
  EXPECT_THAT(text, HasSubstr("step 1/1000  loss 2.5000"));
  EXPECT_THAT(text, HasSubstr("10k tokens/s  2GFLOP/s"));
  EXPECT_THAT(text, HasSubstr("step 3/1000"));
  EXPECT_THAT(text, Not(HasSubstr("step 4/1000")));
  EXPECT_THAT(text, HasSubstr("step 23/1000"));
  EXPECT_THAT(text, HasSubstr("step 43/1000"));
  EXPECT_THAT(text, HasSubstr("step 100/1000"));  // The last one seen, by Finish.
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 8);
}

TEST_F(ProgressTest, EveryNSteps) {
  options_.log_every = 40;
  Progress progress(options_);
  for (int step = 1; step <= 80; ++step) progress.Step(Step(step));
  progress.Finish();
  const std::string text = Written();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5);
  EXPECT_THAT(text, HasSubstr("step 80/1000"));
}

TEST_F(ProgressTest, EstimatesFromTheStepsOfThisRun) {
  options_.first_step = 500;
  Progress progress(options_);
  now_ += absl::Seconds(1);
  progress.Step(Step(501));
  EXPECT_THAT(Written(), HasSubstr("8m19s left"));
}

TEST_F(ProgressTest, LinesStandAboveTheLiveOne) {
  options_.live = true;
  Progress progress(options_);
  progress.Step(Step(1));
  progress.Line("saved");
  progress.Finish();
  const std::string text = Written();
  EXPECT_EQ(text.find("\r\033[K["), 0u);
  EXPECT_THAT(text, HasSubstr("\r\033[Ksaved\n\r\033[K["));
  EXPECT_EQ(text.back(), '\n');
}

TEST_F(ProgressTest, ALiveLineNeverWraps) {
  options_.live = true;
  options_.num_steps = 1'000'000'000'000'000;
  Progress progress(options_);
  StepMetrics metrics = Step(999'999'999'999'999);
  metrics.grad_norm = 1.23456e-200;
  metrics.learning_rate = 1.23456e-200;
  progress.Step(metrics);
  EXPECT_LT(Written().size(), 80u + 4);
}

TEST(PhaseTimerTest, PhasesAddUpToTheWhole) {
  absl::Time now = absl::FromUnixSeconds(0);
  PhaseTimer timer([&] { return now; });
  {
    PhaseScope scope(timer, Phase::kEvaluation);
    now += absl::Seconds(2);
  }
  timer.Add(Phase::kForward, absl::Seconds(5));
  now += absl::Seconds(8);
  EXPECT_EQ(timer.total(), absl::Seconds(10));
  EXPECT_EQ(timer.total(Phase::kOther), absl::Seconds(3));
  EXPECT_EQ(timer.Summary(),
            "forward 5.00 s (50 %), other 3.00 s (30 %), evaluation 2.00 s (20 %)");
}

TEST(RunReporterTest, RanksWriteLogsAndRankZeroTheMetrics) {
  const std::string run_dir = JoinPath(::testing::TempDir(), absl::StrCat("reporter_", getpid()));
  ASSERT_TRUE(RemoveTree(run_dir).ok());
  ASSERT_TRUE(MakeDirectory(LogsDir(run_dir)).ok());
  ::testing::internal::CaptureStdout();
  for (const int rank : {0, 3}) {
    StatusOr<std::unique_ptr<RunReporter>> reporter = RunReporter::Create({run_dir, rank, 2, 1});
    ASSERT_TRUE(reporter.ok()) << reporter.status();
    ASSERT_TRUE((*reporter)->Start(0).ok());
    StepMetrics metrics;
    metrics.step = 1;
    ASSERT_TRUE((*reporter)->Step(metrics).ok());
    EvaluationMetrics evaluation;
    evaluation.step = 1;
    evaluation.accuracy = 0.5;
    ASSERT_TRUE((*reporter)->Evaluation(evaluation).ok());
    (*reporter)->Summary("done");
  }
  const std::string output = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(std::count(output.begin(), output.end(), '\n'), 7);  // Of rank 0 alone.
  EXPECT_THAT(output, HasSubstr("accuracy 50.00 %"));
  EXPECT_THAT(output, HasSubstr("done: 1 steps (to step 1)"));
  EXPECT_THAT(output, HasSubstr(MetricsPath(run_dir)));
  const std::string log = *ReadFile(JoinPath(run_dir, "logs/rank-0003.log"));
  EXPECT_THAT(log, HasSubstr("step 1/2"));
  EXPECT_THAT(log, Not(HasSubstr("\r")));
  const std::string metrics = *ReadFile(MetricsPath(run_dir));
  EXPECT_EQ(std::count(metrics.begin(), metrics.end(), '\n'), 2);
}

TEST(RunReporterTest, AnAbsentFolderIsAnError) {
  EXPECT_EQ(RunReporter::Create({"/nonexistent/run"}).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace trireme
