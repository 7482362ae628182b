// What a rank tells of its run: metrics, progress, its log, and the time by phase.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

#include "core/base/status.h"
#include "launch/metrics.h"
#include "launch/phase_timer.h"
#include "launch/progress.h"

namespace trireme {

struct ReporterOptions {
  std::string run_dir;  // Exists, with its logs folder.
  int rank = 0;
  int64_t num_steps = 0;
  int64_t log_every = 0;
};

// Rank 0 writes metrics.jsonl and standard output; every rank writes its log, logs/rank-0003.log.
class RunReporter {
 public:
  static StatusOr<std::unique_ptr<RunReporter>> Create(const ReporterOptions& options);
  ~RunReporter();

  // Before the first step: `resumed_step` updates were done by an earlier run. Cuts the metrics
  // after it.
  Status Start(int64_t resumed_step);

  // Every rank calls these at the same steps.
  Status Step(const StepMetrics& metrics);
  Status Evaluation(const EvaluationMetrics& metrics);

  // A line for people: in this rank's log, and for rank 0 on standard output.
  void Line(absl::string_view text);
  // In this rank's log only.
  void LogLine(absl::string_view text);

  // Rank 0: steps, rates, the time by phase, and where metrics, logs and checkpoints are. `ending`
  // opens it: "done", "stopped by SIGINT".
  void Summary(absl::string_view ending);

  PhaseTimer& phases() { return phases_; }

 private:
  explicit RunReporter(const ReporterOptions& options) : options_(options) {}

  ReporterOptions options_;
  PhaseTimer phases_;
  int log_fd_ = -1;
  std::optional<Progress> log_;
  std::optional<Progress> terminal_;      // Rank 0.
  std::optional<MetricsWriter> metrics_;  // Rank 0.
  int64_t resumed_step_ = 0;
  int64_t last_step_ = 0;
  int64_t tokens_ = 0;
  double step_seconds_ = 0;
};

}  // namespace trireme
