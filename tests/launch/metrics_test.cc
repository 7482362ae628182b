#include "launch/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

#include "core/io/file.h"
#include "core/io/json.h"

namespace trireme {
namespace {

StepMetrics Step(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 2.5;
  metrics.grad_norm = 0.1;
  metrics.learning_rate = 3e-4;
  metrics.tokens = 4096;
  metrics.step_seconds = 0.5;
  metrics.model_flops = 1e9;
  metrics.comm_bytes = {{"replica", 812312}};
  return metrics;
}

std::string TestFile(const char* name) {
  const std::string path = JoinPath(::testing::TempDir(), absl::StrCat(getpid(), "_", name));
  EXPECT_TRUE(RemoveTree(path).ok());
  return path;
}

TEST(MetricsTest, LinesAreJson) {
  EXPECT_EQ(ToJsonLine(Step(12)),
            R"({"step":12,"loss":2.5,"grad_norm":0.1,"learning_rate":3e-04,"tokens":4096,)"
            R"("tokens_per_second":8192.0,"step_seconds":0.5,"model_flops_per_second":2e+09,)"
            R"("comm_bytes":{"replica":812312}})");
  EXPECT_TRUE(ParseJson(ToJsonLine(Step(12))).ok());
  EvaluationMetrics evaluation;
  evaluation.step = 12;
  evaluation.loss = 2.25;
  evaluation.bits_per_byte = 3.5;
  evaluation.num_targets = 100;
  EXPECT_EQ(ToJsonLine(evaluation),
            R"({"step":12,"validation_loss":2.25,"bits_per_byte":3.5,"evaluation_targets":100,)"
            R"("evaluation_seconds":0.0})");
  evaluation.accuracy = 0.5;
  evaluation.personal_loss = 2;
  evaluation.personal_accuracy = 0.75;
  EXPECT_EQ(ToJsonLine(evaluation),
            R"({"step":12,"validation_loss":2.25,"bits_per_byte":3.5,"accuracy":0.5,)"
            R"("personal_loss":2.0,"personal_accuracy":0.75,"evaluation_targets":100,)"
            R"("evaluation_seconds":0.0})");
}

TEST(MetricsTest, WhatIsNotFiniteIsNullWithANote) {
  StepMetrics metrics = Step(3);
  metrics.loss = std::nan("");
  metrics.grad_norm = -std::numeric_limits<double>::infinity();
  metrics.step_seconds = 0;
  const StatusOr<Json> json = ParseJson(ToJsonLine(metrics));
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_TRUE(json->Find("loss")->IsNull());
  EXPECT_TRUE(json->Find("grad_norm")->IsNull());
  EXPECT_EQ(*json->Find("note")->As<std::string>(), "loss is nan, grad_norm is -inf");
  EXPECT_FALSE(json->Find("tokens_per_second")->IsNull());
}

TEST(MetricsTest, ResumeCutsWhatCameAfterTheCheckpoint) {
  const std::string path = TestFile("metrics_resume.jsonl");
  {
    StatusOr<MetricsWriter> writer = MetricsWriter::Open(path, 0);
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (int step = 1; step <= 5; ++step) ASSERT_TRUE(writer->Write(Step(step)).ok());
    EvaluationMetrics evaluation;
    evaluation.step = 3;
    ASSERT_TRUE(writer->Write(evaluation).ok());
  }
  const StatusOr<std::string> text = ReadFile(path);
  ASSERT_TRUE(text.ok());
  // A run that was killed in the middle of a line, and a block of zeros that a crash left.
  ASSERT_TRUE(
      WriteFileAtomically(path, *text + std::string(16, '\0') + "\n{\"step\":2,\"loss\":1").ok());
  StatusOr<MetricsWriter> writer = MetricsWriter::Open(path, 3);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->Write(Step(4)).ok());
  const StatusOr<std::string> resumed = ReadFile(path);
  ASSERT_TRUE(resumed.ok());
  std::vector<int64_t> steps;
  size_t begin = 0;
  for (size_t end; (end = resumed->find('\n', begin)) != std::string::npos; begin = end + 1) {
    const StatusOr<Json> json = ParseJson(resumed->substr(begin, end - begin));
    ASSERT_TRUE(json.ok()) << json.status();
    steps.push_back(*json->Find("step")->As<int64_t>());
  }
  EXPECT_EQ(begin, resumed->size());
  EXPECT_THAT(steps, ::testing::ElementsAre(1, 2, 3, 3, 4));
}

TEST(MetricsTest, StartEmptiesTheFile) {
  const std::string path = TestFile("metrics_start.jsonl");
  ASSERT_TRUE(WriteFileAtomically(path, ToJsonLine(Step(1)) + "\n").ok());
  ASSERT_TRUE(MetricsWriter::Open(path, 0).ok());
  EXPECT_EQ(*ReadFile(path), "");
}

TEST(MetricsTest, ErrorsNameTheFile) {
  EXPECT_EQ(MetricsWriter::Open("/nonexistent/metrics.jsonl", 0).status().message(),
            "open /nonexistent/metrics.jsonl: No such file or directory");
  // A file that may not grow stands for a disk that is full.
  const std::string full = TestFile("full.jsonl");
  StatusOr<MetricsWriter> writer = MetricsWriter::Open(full, 0);
  ASSERT_TRUE(writer.ok()) << writer.status();
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {8, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = writer->Write(Step(1));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, handler);
  EXPECT_EQ(status.message(), "write " + full + ": File too large");
  // The line is not whole: the next run does not take it for one.
  ASSERT_TRUE(MetricsWriter::Open(full, 9).ok());
  EXPECT_EQ(*ReadFile(full), "");
}

}  // namespace
}  // namespace trireme
